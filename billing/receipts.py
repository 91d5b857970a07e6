"""What a training cost: each attempt with its seconds, what was charged, to whom it was free, what came back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Sum

from accounts.models import Team
from billing.entitlements import plan_of
from billing.models import Account, Kind, LedgerEntry, LedgerTransaction, UsageEntry
from billing.services.ledger import held_for


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one attempt: its seconds, whether they were useful, and how many of them were charged.

    One that was kept in part has a line for either part.
    """

    attempt: int
    seconds: float
    is_useful: bool
    charged: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Hold what a training cost, in seconds by where they were taken from.

    `overage_cents` is what of it goes on the invoice; the rest was part of the plan or bought before.
    """

    lines: list[Line]
    is_metered: bool
    of_allowance: int
    of_bought: int
    of_overage: int
    overage_cents: int
    refunded: int
    held: int

    @property
    def charged(self) -> int:
        """Give the seconds charged, less what came back."""
        return self.of_allowance + self.of_bought + self.of_overage - self.refunded

    @property
    def useful(self) -> float:
        return sum(line.seconds for line in self.lines if line.is_useful)

    @property
    def lost(self) -> float:
        """Give the seconds of work that a fault of ours threw away: never charged."""
        return sum(line.seconds for line in self.lines if not line.is_useful)


def receipt_of(team: Team, job_uid: str) -> Receipt:
    """Return the receipt of a training as it stands (five queries). The caller has found the training for its actor."""
    settled = {
        row.attempt: row
        for row in LedgerTransaction.objects.for_team(team)
        .filter(job_uid=job_uid, kind=Kind.SETTLE)
        .prefetch_related("entries")
    }
    taken = dict.fromkeys((Account.HELD_ALLOWANCE, Account.HELD_BOUGHT, Account.HELD_OVERAGE), 0)
    charged: dict[int | None, int] = {}
    for attempt, row in settled.items():
        for entry in row.entries.all():
            if entry.account == Account.USED:
                charged[attempt] = entry.seconds
            elif entry.account in taken:
                taken[Account(entry.account)] -= entry.seconds
    refunded = LedgerEntry.objects.for_team(team).filter(
        transaction__job_uid=job_uid, transaction__kind=Kind.REFUND, account=Account.BOUGHT
    )
    usage = UsageEntry.objects.for_team(team).filter(job_uid=job_uid).order_by("attempt")
    held = sum(held_for(team, job_uid).values())
    price = plan_of(team).overage_cents_an_hour or 0
    return Receipt(
        lines=[line for row in usage for line in _lines(row, charged.get(row.attempt, 0))],
        is_metered=bool(settled) or bool(held),
        of_allowance=taken[Account.HELD_ALLOWANCE],
        of_bought=taken[Account.HELD_BOUGHT],
        of_overage=taken[Account.HELD_OVERAGE],
        overage_cents=round(taken[Account.HELD_OVERAGE] * price / 3600),
        refunded=int(refunded.aggregate(n=Sum("seconds"))["n"] or 0),
        held=held,
    )


def _lines(row: UsageEntry, charged: int) -> Iterator[Line]:
    yield Line(row.attempt, row.seconds, row.useful, charged)
    if row.seconds_lost:
        yield Line(row.attempt, row.seconds_lost, False, 0)
