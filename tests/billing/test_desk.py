"""The operator's desk: grants, refunds, the overview, and messages that are acted upon again."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEvent, User
from billing.models import BillingAccount, EventState, Kind, LedgerTransaction, StripeEvent
from billing.overview import plan_lines, teams_near_limits
from billing.services.ledger import funds_of, grant_allowance, hold, settle
from billing.services.purchases import choose_plan
from billing.services.usage import record_usage
from core.models import OutboxMessage
from tests.billing.plans import on_plan
from tests.billing.till import Till
from tests.scenario import Scenario


@pytest.fixture
def desk(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("op@example.org", "a long pass phrase"))
    return client


def test_an_operator_grants_time_with_a_reason_that_the_team_reads(scenario: Scenario, desk: Client) -> None:
    on_plan(scenario, "free")
    account = BillingAccount.objects.for_team(scenario.team).get()
    page = f"/admin/billing/billingaccount/{account.pk}/grant/"
    assert desk.get(page).status_code == 200
    assert desk.post(page, {"minutes": "10"}).status_code == 422
    assert desk.post(page, {"minutes": "10", "reason": "sorry"}).status_code == 303
    assert funds_of(scenario.team).bought == 600
    event = AuditEvent.objects.for_team(scenario.team).get(verb="gpu_time.granted")
    assert (event.data["reason"], event.data["operator"]) == ("sorry", "op@example.org")
    stranger = Client()
    stranger.force_login(scenario.alice.user)
    assert stranger.post(page, {"minutes": "10", "reason": "x"}).status_code == 302
    assert funds_of(scenario.team).bought == 600


def test_an_operator_gives_back_what_was_charged_and_no_more(scenario: Scenario, desk: Client) -> None:
    on_plan(scenario, "free")
    hold(scenario.team, job_uid="trn_1", seconds=300)
    settle(scenario.team, job_uid="trn_1", attempt=1, seconds=120)
    settled = LedgerTransaction.objects.for_team(scenario.team).get(kind=Kind.SETTLE)
    page = f"/admin/billing/ledgertransaction/{settled.pk}/refund/"
    too_much = desk.post(page, {"minutes": "3", "reason": "x"})
    assert (too_much.status_code, "At most 120 seconds" in too_much.content.decode()) == (422, True)
    assert desk.post(page, {"minutes": "2", "reason": "slow"}).status_code == 303
    assert funds_of(scenario.team).bought == 120
    assert "Give back" in desk.get("/admin/billing/ledgertransaction/").content.decode()


def test_the_overview_sums_each_plan_and_names_teams_near_their_limit(
    scenario: Scenario, desk: Client, settings: Any, django_assert_max_num_queries: Any
) -> None:
    settings.GPU_COST_CENTS_AN_HOUR = 200
    on_plan(scenario, "pro", gpu_seconds_a_month=1000)
    BillingAccount.objects.for_team(scenario.team).update(status="active", extra_seats=2)
    grant_allowance(scenario.team)
    hold(scenario.team, job_uid="trn_1", seconds=900)
    record_usage(team=scenario.team, job_uid="trn_1", attempt=1, seconds=900, useful=True)
    record_usage(team=scenario.team, job_uid="trn_1", attempt=2, seconds=900, useful=False)
    with django_assert_max_num_queries(12):
        line = next(each for each in plan_lines() if each.plan.key == "pro")
    assert (line.teams, line.paying, line.revenue, line.cost, line.margin) == (1, 1, 4400, 100, 4300)
    assert [(team.slug, percent) for team, percent in teams_near_limits()] == [("atelier", 90)]
    BillingAccount.objects.for_team(scenario.team).delete()
    assert [percent for _team, percent in teams_near_limits()] == [90]
    on_plan(scenario, "pro", gpu_seconds_a_month=1000)
    BillingAccount.objects.for_team(scenario.team).update(extra_seats=2)
    page = desk.get("/admin/billing/plan/overview/").content.decode()
    assert "$43" in page
    assert "90 %" in page


def test_a_message_that_failed_keeps_its_traceback_and_is_acted_upon_again(
    scenario: Scenario, till: Till, desk: Client
) -> None:
    till.pay(choose_plan(actor=scenario.alice, key="pro", once="1"))
    till.server.control("faults", rate=1.0, kinds=["500"])
    till.deliver()
    failed = StripeEvent.objects.filter(state=EventState.FAILED)
    assert failed.exists()
    assert "PaymentsUnavailable" in failed[0].error
    till.server.control("faults")
    OutboxMessage.objects.all().delete()
    ids = list(failed.values_list("pk", flat=True))
    answer = desk.post("/admin/billing/stripeevent/", {"action": "replay", "_selected_action": ids})
    assert answer.status_code == 302
    assert OutboxMessage.objects.count() == len(ids)
    till.work()
    assert not StripeEvent.objects.filter(state=EventState.FAILED).exists()
    assert BillingAccount.objects.for_team(scenario.team).get().plan.key == "pro"
