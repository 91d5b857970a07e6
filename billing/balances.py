"""What the ledger of a team adds up to."""

from __future__ import annotations

from django.db.models import Sum

from accounts.models import Team
from billing.entitlements import month_of
from billing.models import Account, Balance, LedgerEntry


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
