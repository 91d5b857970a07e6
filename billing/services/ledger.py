"""Move GPU time between the accounts of a team. Everything here happens once by its key, and balanced or not at all.

The team's row is the lock: who moves seconds holds it until the commit. Locks are taken in the order job, then team.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Sum
from django.utils.translation import gettext as _

from accounts.models import Team, User
from billing.balances import balances_of, granted_this_month, has_begun, month_key, overage_this_month
from billing.entitlements import month_of, plan_of, spend_limit_seconds
from billing.models import Account, Kind, LedgerEntry, LedgerTransaction, Plan
from billing.services.alerts import alert
from core.errors import DomainError
from core.outbox import enqueue

# Where a hold takes from, in this order, and where it puts what it took.
HELD = {
    Account.ALLOWANCE: Account.HELD_ALLOWANCE,
    Account.BOUGHT: Account.HELD_BOUGHT,
    Account.OVERAGE: Account.HELD_OVERAGE,
}


class InsufficientCredits(DomainError):
    """Say that there is too little GPU time for this; `extra` has needed and available seconds."""

    status = 402


@dataclass(frozen=True, slots=True)
class Funds:
    """Hold what a team can still spend, in seconds: of this month, bought, and by invoice up to its own limit."""

    allowance: int
    bought: int
    overage: int

    @property
    def total(self) -> int:
        return self.allowance + self.bought + self.overage


def funds_of(team: Team) -> Funds:
    """Return what `team` can spend now (five queries)."""
    balances = balances_of(team)
    if not has_begun(team):
        # Posted with the next training; nobody has to wait for the clock on the first of a month.
        allowance = plan_of(team).gpu_seconds_a_month or 0
    else:
        allowance = balances[Account.ALLOWANCE]
    return Funds(allowance, balances[Account.BOUGHT], _overage_left(team))


def grant_allowance(team: Team) -> None:
    """Give `team` the allowance of this month by its plan, once; what was left of the last one lapses."""
    plan = plan_of(team)
    if plan.gpu_seconds_a_month is not None:
        with transaction.atomic():
            _lock(team)
            _grant(team, plan.gpu_seconds_a_month, plan.name)


def raise_allowance(team: Team, *, before: Plan, share: float = 1.0) -> None:
    """Add to this month what the team's plan has more than the one `before`, the part `share` of it that is paid for.

    A smaller plan takes nothing back, and no month gets more than the largest plan it saw.
    """
    plan = plan_of(team)
    if plan.gpu_seconds_a_month is None:
        return
    had = before.gpu_seconds_a_month or 0
    with transaction.atomic():
        _lock(team)
        _grant(team, min(had, plan.gpu_seconds_a_month), before.name)
        granted = granted_this_month(team)
        more = min(math.ceil((plan.gpu_seconds_a_month - had) * share), plan.gpu_seconds_a_month - granted)
        if more > 0:
            moves = {Account.ISSUED: -more, Account.ALLOWANCE: more}
            _post(team, Kind.ALLOWANCE, month_key(granted + more), moves, reason=plan.name)


def add_bought(
    team: Team, *, seconds: int, key: str, kind: Kind = Kind.TOP_UP, reason: str = "", by: User | None = None
) -> None:
    """Put bought or granted seconds into the account that never lapses; the same key again changes nothing."""
    with transaction.atomic():
        _lock(team)
        moves = {Account.ISSUED: -seconds, Account.BOUGHT: seconds}
        _post(team, kind, key, moves, reason=reason, by=by)


def hold(team: Team, *, job_uid: str, seconds: int, at_least: int | None = None) -> int:
    """Reserve `seconds` for a job and return how many were reserved: fewer where that is all, but `at_least` so many.

    Raise InsufficientCredits (`insufficient_credits`, or `spend_limit_reached` where the team's own limit is the
    reason), and reserve nothing then.
    """
    with transaction.atomic():
        _lock(team)
        grant_allowance(team)
        funds = funds_of(team)
        wanted = min(seconds, funds.total)
        if wanted < (seconds if at_least is None else at_least) or wanted <= 0:
            raise shortage(team, seconds, funds)
        left = wanted
        moves: dict[Account, int] = {}
        for source, available in (
            (Account.ALLOWANCE, funds.allowance),
            (Account.BOUGHT, funds.bought),
            (Account.OVERAGE, funds.overage),
        ):
            part = min(left, available)
            moves |= {source: -part, HELD[source]: part}
            left -= part
        _post(team, Kind.HOLD, _next_key(team, "hold", job_uid), moves, job_uid=job_uid)
        return wanted


def settle(team: Team, *, job_uid: str, attempt: int, seconds: float) -> int:
    """Charge a job's reserve for what one attempt used and return the seconds charged; once for each attempt.

    Never more than is reserved: what a run took beyond that is ours.
    """
    with transaction.atomic():
        if not is_in_ledger(team, job_uid):
            return 0  # nothing was ever reserved: not metered
        _lock(team)
        grant_allowance(team)
        held = held_for(team, job_uid)
        left, moves = min(round(seconds), sum(held.values())), {}
        charged = left
        for account, there in held.items():
            part = min(left, there)
            moves[account] = -part
            left -= part
        moves[Account.USED] = charged
        key = f"settle:{job_uid}:{attempt}"
        posted = _post(team, Kind.SETTLE, key, moves, job_uid=job_uid, attempt=attempt)
        if posted is None:
            return 0
        if moves[Account.HELD_OVERAGE]:
            from billing.tasks import report_overage

            enqueue(report_overage, posted.uid)
        alert(team)
        return charged


def release(team: Team, *, job_uid: str) -> int:
    """Give back what a job has reserved and does not need; return how many seconds."""
    with transaction.atomic():
        held = held_for(team, job_uid)
        if not any(held.values()):
            return 0
        _lock(team)
        held = held_for(team, job_uid)
        moves: dict[Account, int] = {}
        for source, account in HELD.items():
            # What was taken from an earlier month's allowance has lapsed with it.
            lapses = (
                min(held[account], _held_before_this_month(team, job_uid))
                if source == Account.ALLOWANCE
                else 0
            )
            moves |= {account: -held[account], source: held[account] - lapses}
            moves[Account.LAPSED] = moves.get(Account.LAPSED, 0) + lapses
        _post(team, Kind.RELEASE, _next_key(team, "release", job_uid), moves, job_uid=job_uid)
        return sum(held.values())


def refund(team: Team, *, settled: LedgerTransaction, seconds: int, reason: str, by: User) -> None:
    """Give back seconds that an attempt was charged, as bought ones; raise DomainError beyond what it was charged."""
    with transaction.atomic():
        _lock(team)
        charged = _used_by(team, settled)
        given = -sum(_used_by(team, each) for each in settled.reversals.all())
        if not 0 < seconds <= charged - given:
            raise DomainError(
                "refund_too_large",
                _("At most %(n)s seconds can be given back.") % {"n": charged - given},
                pointer="/seconds",
            )
        _post(
            team,
            Kind.REFUND,
            f"refund:{settled.uid}:{given}",
            {Account.USED: -seconds, Account.BOUGHT: seconds},
            job_uid=settled.job_uid,
            attempt=settled.attempt,
            reason=reason,
            by=by,
            reverses=settled,
        )


def is_in_ledger(team: Team, job_uid: str) -> bool:
    """Tell whether GPU time was ever reserved for a job (one query)."""
    return LedgerTransaction.objects.for_team(team).filter(job_uid=job_uid).exists()


def held_for(team: Team, job_uid: str) -> dict[Account, int]:
    """Return what is reserved for a job by account, in the order it is charged (one query)."""
    rows = (
        LedgerEntry.objects.for_team(team)
        .filter(transaction__job_uid=job_uid, account__in=HELD.values())
        .values("account")
        .annotate(n=Sum("seconds"))
    )
    found = {Account(row["account"]): int(row["n"]) for row in rows}
    return {account: found.get(account, 0) for account in HELD.values()}


def _post(
    team: Team,
    kind: Kind,
    key: str,
    moves: Mapping[Account, int],
    *,
    job_uid: str = "",
    attempt: int | None = None,
    reason: str = "",
    by: User | None = None,
    reverses: LedgerTransaction | None = None,
) -> LedgerTransaction | None:
    """Write a transaction with its entries under the team's lock; None if it was posted already or moves nothing."""
    rows = LedgerTransaction.objects.for_team(team)
    moves_nothing = not any(moves.values())
    if (moves_nothing and kind != Kind.SETTLE) or rows.filter(key=key).exists():
        return None
    posted: LedgerTransaction = LedgerTransaction.objects.create(
        team=team,
        kind=kind,
        key=key,
        job_uid=job_uid,
        attempt=attempt,
        reason=reason[:200],
        made_by=by,
        reverses=reverses,
    )
    LedgerEntry.objects.bulk_create(
        LedgerEntry(team=team, transaction=posted, account=account, seconds=seconds)
        for account, seconds in moves.items()
        if seconds
    )
    return posted


def _lock(team: Team) -> None:
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)


def _next_key(team: Team, word: str, job_uid: str) -> str:
    count = LedgerTransaction.objects.for_team(team).filter(job_uid=job_uid).count()
    return f"{word}:{job_uid}:{count}"


def _held_before_this_month(team: Team, job_uid: str) -> int:
    """Return the seconds of allowance that the job still held when this month began."""
    rows = LedgerEntry.objects.for_team(team).filter(
        transaction__job_uid=job_uid, account=Account.HELD_ALLOWANCE, created_at__lt=month_of()[0]
    )
    return max(0, int(rows.aggregate(n=Sum("seconds"))["n"] or 0))


def _grant(team: Team, seconds: int, reason: str) -> None:
    """Begin the month with `seconds` under the team's lock, if it has not begun."""
    if has_begun(team):
        return
    old = balances_of(team)[Account.ALLOWANCE]
    moves = {Account.ISSUED: -seconds, Account.ALLOWANCE: seconds - old, Account.LAPSED: old}
    _post(team, Kind.ALLOWANCE, month_key(seconds), moves, reason=reason)


def _overage_left(team: Team) -> int:
    """Return the seconds that the team's own limit still lets be invoiced this month."""
    limit = spend_limit_seconds(team)
    return max(0, limit - overage_this_month(team)) if limit else 0


def _used_by(team: Team, posted: LedgerTransaction) -> int:
    rows = LedgerEntry.objects.for_team(team).filter(transaction=posted, account=Account.USED)
    return int(rows.aggregate(n=Sum("seconds"))["n"] or 0)


def shortage(team: Team, needed: int, funds: Funds) -> InsufficientCredits:
    """Return the error of a team that has `funds` and needs more, with what would help."""
    minutes = {"needed": -(-needed // 60), "left": funds.total // 60}
    if spend_limit_seconds(team):
        code = "spend_limit_reached"
        message = _(
            "This needs about %(needed)s GPU minutes; %(left)s are left under your spend limit. Raise the limit or "
            "buy more minutes."
        )
    else:
        code = "insufficient_credits"
        message = _(
            "This needs about %(needed)s GPU minutes and %(left)s are left. Buy more, or change the plan."
        )
    return InsufficientCredits(code, message % minutes, needed_seconds=needed, available_seconds=funds.total)
