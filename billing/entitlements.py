"""What a team may do by its plan: the one place that answers."""

from __future__ import annotations

from datetime import timedelta

from accounts.models import Team
from billing.models import BillingAccount, Plan
from billing.plans import default_plan


def plan_of(team: Team) -> Plan:
    """Return the plan `team` is on (one query, two for a team that chose none)."""
    account = BillingAccount.objects.for_team(team).select_related("plan").first()
    return account.plan if account is not None else default_plan()


def checkpoints_kept_for(team: Team) -> timedelta | None:
    """Return how long the earlier checkpoints of a finished training are kept, None for ever."""
    days = plan_of(team).retention_days
    return None if days is None else timedelta(days=days)
