"""What an operator wants to know of all teams: revenue, use and margin by plan, and who is near a limit."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import Team
from billing.entitlements import month_of
from billing.models import (
    Account,
    Balance,
    BillingAccount,
    Kind,
    LedgerEntry,
    LedgerTransaction,
    Plan,
    UsageEntry,
)
from billing.plans import default_plan
from billing.services.usage import LOST_SECONDS

NEAR = 0.8
MOST_TEAMS = 50


@dataclass(frozen=True, slots=True)
class PlanLine:
    """Hold one plan's month so far; money in cents. `cost` is what its GPU time costs the operator."""

    plan: Plan
    teams: int
    paying: int
    revenue: int
    overage: int
    useful_seconds: float
    lost_seconds: float
    cost: int

    @property
    def margin(self) -> int:
        return self.revenue + self.overage - self.cost


def plan_lines() -> list[PlanLine]:
    """Return a line for each plan (the same number of queries whatever the number of teams)."""
    start, end = month_of()
    fallback = default_plan().pk
    teams = _by_plan(
        BillingAccount.unscoped.filter(team__deleted_at=None)
        .values("plan")
        .annotate(
            n=Count("id"),
            paying=Count("id", filter=Q(status="active")),
            seats=Coalesce(Sum("extra_seats", filter=Q(status="active")), 0),
        )
    )
    loose = Team.objects.filter(deleted_at=None).count() - sum(row["n"] for row in teams.values())
    used: dict[int, dict[str, float]] = {}
    rows = (
        UsageEntry.unscoped.filter(created_at__gte=start, created_at__lt=end)
        .values("team_id")
        .annotate(
            useful_seconds=Coalesce(Sum("seconds", filter=Q(useful=True)), 0.0),
            lost=Coalesce(LOST_SECONDS, 0.0),
        )
    )
    overage = dict(
        LedgerEntry.unscoped.filter(account=Account.OVERAGE, created_at__gte=start, created_at__lt=end)
        .values_list("team_id")
        .annotate(n=Sum("seconds"))
    )
    plan_of_team = dict(BillingAccount.unscoped.values_list("team_id", "plan_id"))
    beyond: dict[int, int] = {}
    for team_id, seconds in overage.items():
        plan_id = plan_of_team.get(team_id, fallback)
        beyond[plan_id] = beyond.get(plan_id, 0) - seconds
    for row in rows:
        sums = used.setdefault(plan_of_team.get(row["team_id"], fallback), {"useful": 0.0, "lost": 0.0})
        sums["useful"] += row["useful_seconds"]
        sums["lost"] += row["lost"]
    lines = []
    for plan in Plan.objects.all():
        there = teams.get(plan.pk, {"n": 0, "paying": 0, "seats": 0})
        sums = used.get(plan.pk, {"useful": 0.0, "lost": 0.0})
        hours = (sums["useful"] + sums["lost"]) / 3600
        lines.append(
            PlanLine(
                plan=plan,
                teams=there["n"] + (loose if plan.pk == fallback else 0),
                paying=there["paying"],
                revenue=there["paying"] * (plan.price_cents or 0) + there["seats"] * (plan.seat_cents or 0),
                overage=round(beyond.get(plan.pk, 0) * (plan.overage_cents_an_hour or 0) / 3600),
                useful_seconds=sums["useful"],
                lost_seconds=sums["lost"],
                cost=round(hours * settings.GPU_COST_CENTS_AN_HOUR),
            )
        )
    return lines


def teams_near_limits() -> list[tuple[Team, int]]:
    """Return teams that used most of their month's GPU time, with the percentage, the most first (three queries)."""
    # Whose month has not begun in the ledger has used nothing of it.
    begun = LedgerTransaction.unscoped.filter(kind=Kind.ALLOWANCE, created_at__gte=month_of()[0])
    rows = Balance.unscoped.filter(
        account=Account.ALLOWANCE, team__in=begun.values("team"), team__deleted_at=None
    ).select_related("team")
    grants = LedgerEntry.unscoped.filter(transaction__in=begun, account=Account.ISSUED)
    granted = dict(grants.values_list("team_id").annotate(n=Sum("seconds")))
    near = []
    for row in rows:
        whole = -granted.get(row.team_id, 0)
        if whole and row.seconds <= whole * (1 - NEAR):
            near.append((row.team, 100 * (whole - row.seconds) // whole))
    return sorted(near, key=lambda each: -each[1])[:MOST_TEAMS]


def _by_plan(rows: object) -> dict[int, dict[str, int]]:
    return {row["plan"]: row for row in rows}  # type: ignore[attr-defined]
