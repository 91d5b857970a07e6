"""What the ledger of a team adds up to."""

from __future__ import annotations

from django.db.models import QuerySet, Sum

from accounts.models import Team
from billing.entitlements import month_of, plan_of
from billing.models import Account, Balance, Kind, LedgerEntry, LedgerTransaction


def balances_of(team: Team) -> dict[Account, int]:
    """Return what each account of `team` holds (one query)."""
    rows = Balance.objects.for_team(team).values_list("account", "seconds")
    found = {Account(account): seconds for account, seconds in rows}
    return {account: found.get(account, 0) for account in Account}


def overage_this_month(team: Team) -> int:
    """Return the seconds of this month that are invoiced, or reserved to be (one query)."""
    start, end = month_of()
    rows = LedgerEntry.objects.for_team(team).filter(
        account=Account.OVERAGE, created_at__gte=start, created_at__lt=end
    )
    # What a month before reserved and this one gave back is nothing that this month may spend more.
    return max(0, -int(rows.aggregate(n=Sum("seconds"))["n"] or 0))


def month_key(seconds: int | str = "") -> str:
    """Return the key of a grant of this month's allowance; without `seconds` what all of them begin with."""
    return f"allowance:{month_of()[0]:%Y-%m}:{seconds}"


def has_begun(team: Team) -> bool:
    """Tell whether this month's allowance is in the ledger (one query)."""
    return _grants(team).exists()


def granted_this_month(team: Team) -> int:
    """Return the seconds of allowance that were granted this month, 0 before it has begun (one query)."""
    entries = LedgerEntry.objects.for_team(team).filter(transaction__in=_grants(team), account=Account.ISSUED)
    return -int(entries.aggregate(n=Sum("seconds"))["n"] or 0)


def allowance_of_month(team: Team) -> int:
    """Return the whole allowance of this month: what was granted, or the plan's before the month has begun."""
    return granted_this_month(team) or plan_of(team).gpu_seconds_a_month or 0


def _grants(team: Team) -> QuerySet[LedgerTransaction]:
    return LedgerTransaction.objects.for_team(team).filter(kind=Kind.ALLOWANCE, key__startswith=month_key())
