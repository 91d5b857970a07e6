"""What a team may do by its plan. The quotas of `core.quotas` ask here, as do retention and the queue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts.models import Team
from billing.models import BillingAccount, Plan
from billing.plans import default_plan

# Fields of a plan that limit, named like the quotas.
LIMITS = (
    "trainings_a_month",
    "stored_bytes",
    "seats",
    "running_trainings",
    "queued_trainings",
    "steps_per_training",
    "pictures_per_dataset",
)


def plan_of(team: Team) -> Plan:
    """Return the plan `team` is on (one query, two for a team that chose none)."""
    account = account_of(team)
    return account.plan if account is not None else default_plan()


def account_of(team: Team) -> BillingAccount | None:
    """Return the account of `team` with its plan, None for a team that chose none (one query)."""
    account: BillingAccount | None = BillingAccount.objects.for_team(team).select_related("plan").first()
    return account


def checkpoints_kept_for(team: Team) -> timedelta | None:
    """Return how long the earlier checkpoints of a finished training are kept, None for ever."""
    days = plan_of(team).retention_days
    return None if days is None else timedelta(days=days)


def is_kept_for_now(team: Team) -> bool:
    """Tell whether nothing of `team` may be forgotten yet, because its plan ended a short while ago."""
    account = account_of(team)
    until = account.data_kept_until if account is not None else None
    return until is not None and until > timezone.now()


def grace_end(account: BillingAccount) -> datetime | None:
    """Return until when a failed payment can be made good before the plan ends, None if none failed."""
    since = account.past_due_since
    return since + timedelta(days=settings.PAST_DUE_DAYS) if since is not None else None


def spend_limit_seconds(team: Team) -> int:
    """Return the GPU seconds a month that a team lets itself be invoiced; 0 where plan or team allow none.

    Only with a subscription that is paid: in a trial, past due or without one nobody would pay the invoice.
    """
    account = account_of(team)
    if account is None or account.status != "active" or not account.plan.overage_cents_an_hour:
        return 0
    return account.spend_limit_cents * 3600 // account.plan.overage_cents_an_hour


def month_of(moment: datetime | None = None) -> tuple[datetime, datetime]:
    """Return the beginning and the end (UTC) of the month that `moment` (default: now) is in."""
    start = (
        (moment or timezone.now()).astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    )
    return start, (start + timedelta(days=32)).replace(day=1)


class PlanTable:
    """Answer `core.quotas` from the table of plans."""

    def limits(self, team: Team) -> Mapping[str, int | None]:
        account = account_of(team)
        plan = account.plan if account is not None else default_plan()
        limits = {name: getattr(plan, name) for name in LIMITS}
        if account is not None and plan.seats is not None:
            limits["seats"] = plan.seats + account.extra_seats
        return limits

    def resets_at(self, team: Team) -> datetime:
        return month_of()[1]

    def plan_for(self, quota: str, amount: int) -> str:
        plans = Plan.objects.filter(is_on_sale=True).order_by(
            "position", F("price_cents").asc(nulls_last=True)
        )
        for plan in plans:
            limit = getattr(plan, quota)
            if limit is None or limit >= amount:
                return plan.name
        return ""

    def has(self, team: Team, feature: str) -> bool:
        return bool(getattr(plan_of(team), f"has_{feature}"))

    def plan_with(self, feature: str) -> str:
        plan = Plan.objects.filter(is_on_sale=True, **{f"has_{feature}": True}).first()
        return plan.name if plan is not None else ""
