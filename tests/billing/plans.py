"""Put a team on a plan for a test."""

from __future__ import annotations

from typing import Any

from billing.models import BillingAccount, Plan
from tests.scenario import Scenario


def on_plan(scenario: Scenario, key: str, **changes: Any) -> Plan:
    """Put the team on a plan, some of whose values are others."""
    Plan.objects.filter(key=key).update(**changes)
    plan = Plan.objects.get(key=key)
    values = {"plan": plan, "status": "active"}
    BillingAccount.objects.for_team(scenario.team).update_or_create(
        defaults=values, create_defaults={"team": scenario.team, **values}
    )
    return plan
