"""Put teams on plans."""

from __future__ import annotations

from django.db import transaction

from accounts.actor import member_actor
from accounts.models import Team, User
from accounts.roles import Role
from accounts.services.audit import audit
from billing.entitlements import plan_of
from billing.models import BillingAccount, Plan
from billing.services.ledger import raise_allowance


def put_on_plan(*, team: Team, plan: Plan, by: User) -> BillingAccount:
    """Put `team` on `plan` and return its account; `by` is an operator, whose change the team's audit log shows."""
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        before = plan_of(team)
        account: BillingAccount
        account, _made = BillingAccount.objects.for_team(team).update_or_create(
            defaults={"plan": plan}, create_defaults={"team": team, "plan": plan}
        )
        if before != plan:
            raise_allowance(team, before=before)
            actor = member_actor(team, by, Role.VIEWER)
            audit(actor, "plan.changed", team, before=before.key, after=plan.key, operator=by.email)
    return account
