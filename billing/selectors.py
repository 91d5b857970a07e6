"""Read what was used: by month, by member, by project."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDay, TruncMonth
from django.utils import timezone

from accounts.actor import Actor, require
from accounts.models import Team, User
from accounts.roles import Can
from billing.balances import allowance_of_month, balances_of, overage_this_month
from billing.entitlements import account_of, month_of, plan_of
from billing.models import Account, BillingAccount, LedgerEntry, Plan, TopUp, UsageEntry
from billing.services.ledger import HELD, Funds, funds_of
from billing.services.subscriptions import GOOD, further_seats
from billing.services.usage import LOST_SECONDS
from core.quotas import Answer, answers

MONTHS_SHOWN = 12
MONTH = re.compile(r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Hold what one group used: compute seconds that were useful and that were lost, and how many trainings."""

    label: str
    useful: float
    lost: float
    trainings: int


def month_from(text: str) -> datetime | None:
    """Return the first moment (UTC) of a month written as `2026-11`, None for anything else."""
    return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC) if MONTH.fullmatch(text) else None


@dataclass(frozen=True, slots=True)
class Offer:
    """Hold a plan with the further seats that a team's members would need, and what both are a month."""

    plan: Plan
    further: int

    @property
    def seats_cents(self) -> int:
        """Give the price of the further seats a month, in cents."""
        return self.further * (self.plan.seat_cents or 0)


@dataclass(frozen=True, slots=True)
class PlanPage:
    """Hold what the page of a team's plan shows; `allowance` is the whole of this month in seconds."""

    account: BillingAccount
    plans: list[Offer]
    top_ups: list[TopUp]
    quotas: list[Answer]
    funds: Funds
    allowance: int
    held: int
    overage_used: int
    # Names one rendering of the page: a form of it that is sent twice is carried out once.
    once: str

    @property
    def plan(self) -> Plan:
        return self.account.plan

    @property
    def limit_amount(self) -> str:
        """Give the spend limit in whole units of the currency."""
        return f"{self.account.spend_limit_cents / 100:.2f}".removesuffix(".00")

    @property
    def allowance_percent(self) -> int:
        """Give the share of the month's GPU time that is left."""
        return min(100, 100 * self.funds.allowance // self.allowance) if self.allowance else 0

    @property
    def month_cents(self) -> int:
        """Give the price of plan and further seats a month, in cents."""
        return (self.plan.price_cents or 0) + self.account.extra_seats * (self.plan.seat_cents or 0)

    @property
    def is_subscribed(self) -> bool:
        """Tell whether a subscription is behind the plan, and not an operator or nothing."""
        return self.account.status in GOOD

    @property
    def overage_cents(self) -> int:
        """Give what this month is invoiced beyond the plan so far, reserves included, in cents."""
        return self.overage_used * (self.plan.overage_cents_an_hour or 0) // 3600


# Shown as bars; the others are limits on single things, or plumbing.
QUOTAS_SHOWN = ("trainings_a_month", "stored_bytes", "seats", "running_trainings", "queued_trainings")


def plan_page(actor: Actor) -> PlanPage:
    """Return what the page of the actor's plan shows; a constant number of queries."""
    require(actor, Can.USAGE_VIEW)
    team = actor.team
    balances = balances_of(team)
    stands = {each.meter.name: each for each in answers(team)}
    return PlanPage(
        account=account_of(team) or BillingAccount(team=team, plan=plan_of(team)),
        plans=[Offer(plan, further_seats(plan, stands["seats"].used)) for plan in plans_on_sale()],
        top_ups=top_ups_on_sale(),
        quotas=[stands[name] for name in QUOTAS_SHOWN],
        funds=funds_of(team),
        allowance=allowance_of_month(team),
        held=sum(balances[account] for account in HELD.values()),
        overage_used=overage_this_month(team),
        once=secrets.token_urlsafe(12),
    )


def plans_on_sale() -> list[Plan]:
    """Return the plans that can be had, the smallest first."""
    return list(Plan.objects.filter(is_on_sale=True))


def top_ups_on_sale() -> list[TopUp]:
    """Return the top-ups that can be bought, the smallest first."""
    return list(TopUp.objects.filter(is_on_sale=True))


def charged_for(team: Team, job_uid: str) -> int:
    """Return the seconds that a job was charged, less what was given back (one query)."""
    rows = LedgerEntry.objects.for_team(team).filter(transaction__job_uid=job_uid, account=Account.USED)
    return int(rows.aggregate(n=Sum("seconds"))["n"] or 0)


def usage_months(actor: Actor) -> list[tuple[datetime, UsageRow]]:
    """Return the last months with their usage, the newest first (one query)."""
    require(actor, Can.USAGE_VIEW)
    rows = _sums(
        _entries(actor).annotate(month=TruncMonth("created_at", tzinfo=UTC)).values("month")
    ).order_by("-month")
    return [(row["month"], _row("", row)) for row in rows[:MONTHS_SHOWN]]


def usage_groups(actor: Actor, month: datetime | None = None) -> dict[str, list[UsageRow]]:
    """Return the usage of a month (default: this one) by `day`, `member`, `project` and `kind` (one query).

    Days come in order, the others the most first. One look at the month's rows for all of them: a busy team has tens
    of thousands.
    """
    require(actor, Can.USAGE_VIEW)
    start, end = month_of(month)
    found: dict[str, list[UsageRow]] = {name: [] for name in _GROUPS}
    with connection.cursor() as cursor:
        cursor.execute(_USAGE_GROUPS, {"team": actor.team.pk, "start": start, "end": end})
        for grouped, day, member, project, kind, useful, lost, trainings in cursor.fetchall():
            name = _GROUPS[grouped]
            label = {"day": day, "member": member, "project": project, "kind": kind}[name]
            found[name].append(UsageRow(label or "", useful=useful, lost=lost, trainings=trainings))
    found["day"].sort(key=lambda row: row.label)
    for name in ("member", "project", "kind"):
        found[name].sort(key=lambda row: (-row.useful, row.label))
    return found


# Which of the four a row is of, in the order of the sets below.
_GROUPS = ("day", "member", "project", "kind")
_USAGE_GROUPS = f"""
    SELECT CASE
            WHEN grouping(day) = 0 THEN 0 WHEN grouping(member) = 0 THEN 1 WHEN grouping(project) = 0 THEN 2 ELSE 3
        END,
        day, member, project, kind,
        coalesce(sum(seconds) FILTER (WHERE useful), 0),
        coalesce(sum(CASE WHEN useful THEN seconds_lost ELSE seconds END), 0),
        count(DISTINCT job_uid)
    FROM (
        SELECT to_char(entry.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, person.email AS member,
            entry.project_name AS project, entry.kind, entry.seconds, entry.seconds_lost, entry.useful, entry.job_uid
        FROM {UsageEntry._meta.db_table} entry LEFT JOIN {User._meta.db_table} person ON person.id = entry.user_id
        WHERE entry.team_id = %(team)s AND entry.created_at >= %(start)s AND entry.created_at < %(end)s
    ) entries
    GROUP BY GROUPING SETS ((day), (member), (project), (kind))
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Day:
    """Hold a day of a month for a chart: `share` is its part of the busiest day, 0 to 100."""

    date: date
    seconds: float
    share: int


def every_day(rows: list[UsageRow], month: datetime | None = None) -> list[Day]:
    """Return every day of a month up to today with its useful seconds, also those that `rows` (by day) are without."""
    start, end = month_of(month)
    used = {row.label: row.useful for row in rows}
    most = max(used.values(), default=0.0)
    last = min(end - timedelta(days=1), timezone.now().astimezone(UTC)).date()
    days = []
    day = start.date()
    while day <= last:
        seconds = used.get(day.isoformat(), 0.0)
        days.append(Day(day, seconds, round(100 * seconds / most) if most else 0))
        day += timedelta(days=1)
    return days


def usage_rows(actor: Actor, month: datetime | None = None) -> list[tuple[str, str, str, str, UsageRow]]:
    """Return a month's usage as (day, member, project, kind, sums), in order of days (one query)."""
    require(actor, Can.USAGE_VIEW)
    start, end = month_of(month)
    parts = ("day", "user__email", "project_name", "kind")
    days = _entries(actor).filter(created_at__gte=start, created_at__lt=end)
    rows = _sums(days.annotate(day=TruncDay("created_at", tzinfo=UTC)).values(*parts)).order_by(*parts)
    return [
        (f"{row['day']:%Y-%m-%d}", row["user__email"] or "", row["project_name"], row["kind"], _row("", row))
        for row in rows
    ]


def _entries(actor: Actor) -> QuerySet[Any, Any]:
    return UsageEntry.objects.for_team(actor.team)


def _sums(rows: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    return rows.annotate(
        useful_seconds=Coalesce(Sum("seconds", filter=Q(useful=True)), 0.0),
        lost_seconds=Coalesce(LOST_SECONDS, 0.0),
        trainings=Count("job_uid", distinct=True),
    )


def _row(label: object, row: dict[str, Any]) -> UsageRow:
    useful, lost, trainings = row["useful_seconds"], row["lost_seconds"], row["trainings"]
    return UsageRow(str(label), useful=useful, lost=lost, trainings=trainings)
