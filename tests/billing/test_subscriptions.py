"""A team's life with Stripe: whatever comes late, twice, in another order or not at all, the account is right."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests
from django.core.management import call_command
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import AuditEvent, Team, User
from accounts.roles import Role
from accounts.services.teams import delete_team
from billing import gateway
from billing.duties import end_plans_of_deleted_teams, reconcile
from billing.models import BillingAccount, EventState, LedgerTransaction, Plan, StripeEvent
from billing.services.accounts import put_on_plan
from billing.services.ledger import funds_of
from billing.services.purchases import buy_top_up, choose_plan, open_portal, set_spend_limit
from billing.stripe_rows import PaymentsUnavailable
from core.errors import Conflict, NotFound, PermissionDenied
from notifications.models import Notification
from tests.billing.till import Till, account, subscribe
from tests.factories import make_member
from tests.scenario import Scenario

DAY = 86_400


def press(address: str, **fields: str) -> None:
    """Press a button on a page of Stripe's."""
    requests.post(address, data=fields, timeout=10, allow_redirects=False)


def state_of(scenario: Scenario) -> tuple[Any, ...]:
    row = account(scenario)
    return (row.plan.key, row.status, row.ends_at_period_end, row.past_due_since is not None)


def test_a_team_pays_for_a_plan_and_is_on_it(scenario: Scenario, till: Till) -> None:
    address = choose_plan(actor=scenario.alice, key="pro", once="1")
    assert choose_plan(actor=scenario.alice, key="pro", once="1") == address
    assert account(scenario).plan.key == "free"
    till.pay(address)
    assert set(till.deliver()) == {200}
    assert state_of(scenario) == ("pro", "trialing", False, False)
    assert funds_of(scenario.team).allowance == 300 * 60
    told = Notification.objects.filter(kind="payment", user=scenario.alice.user).get()
    assert told.title == "Atelier: the plan is “Pro” now"
    assert StripeEvent.objects.filter(state=EventState.FAILED).count() == 0
    with pytest.raises(Conflict, match="already"):
        choose_plan(actor=scenario.alice, key="pro", once="2")


def test_an_upgrade_begins_at_once_a_downgrade_when_the_month_has_ended(
    scenario: Scenario, till: Till
) -> None:
    subscribe(scenario, till)
    assert choose_plan(actor=scenario.alice, key="team", once="2") == ""
    assert account(scenario).plan.key == "team"
    assert choose_plan(actor=scenario.alice, key="pro", once="3") == ""
    row = account(scenario)
    assert (row.plan.key, row.next_plan and row.next_plan.key) == ("team", "pro")
    till.server.control("advance", seconds=40 * DAY)
    till.deliver()
    row = account(scenario)
    assert (row.plan.key, row.next_plan) == ("pro", None)


def test_a_planned_downgrade_and_a_cancellation_are_taken_back(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "team")
    choose_plan(actor=scenario.alice, key="pro", once="2")
    choose_plan(actor=scenario.alice, key="team", once="3")
    assert account(scenario).next_plan is None
    choose_plan(actor=scenario.alice, key="free", once="4")
    assert state_of(scenario) == ("team", "active", True, False)
    choose_plan(actor=scenario.alice, key="team", once="5")
    assert state_of(scenario) == ("team", "active", False, False)


def test_a_canceled_plan_ends_with_its_month_and_nothing_is_forgotten_for_30_days(
    scenario: Scenario, till: Till
) -> None:
    subscribe(scenario, till, "team")
    choose_plan(actor=scenario.alice, key="free", once="2")
    assert account(scenario).plan.key == "team"
    till.server.control("advance", seconds=32 * DAY)
    till.deliver()
    row = account(scenario)
    assert (row.plan.key, row.status) == ("free", "canceled")
    assert row.data_kept_until is not None
    assert row.data_kept_until > timezone.now() + timedelta(days=29)


def test_a_card_that_fails_leaves_the_plan_while_stripe_tries_again(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "team")
    customer = account(scenario).stripe_customer
    till.server.control("card", customer=customer, outcome="declined")
    till.server.control("advance", seconds=32 * DAY)
    till.deliver()
    assert state_of(scenario) == ("team", "past_due", False, True)
    assert Notification.objects.filter(kind="plan.at_risk", subject_name__contains="another card").exists()
    till.server.control("advance", seconds=20 * DAY)
    till.deliver()
    assert state_of(scenario)[:2] == ("free", "unpaid")
    till.server.control("card", customer=customer, outcome="ok")


def test_bought_time_is_booked_once_however_often_it_is_told(scenario: Scenario, till: Till) -> None:
    address = buy_top_up(actor=scenario.alice, key="gpu-60", once="1")
    till.pay(address)
    till.deliver(repeat=3)
    reconcile()
    assert funds_of(scenario.team).bought == 3600
    assert LedgerTransaction.objects.for_team(scenario.team).filter(kind="top_up").count() == 1


def test_a_declined_payment_gives_nothing(scenario: Scenario, till: Till) -> None:
    till.pay(buy_top_up(actor=scenario.alice, key="gpu-60", once="1"), outcome="declined")
    till.deliver()
    assert funds_of(scenario.team).bought == 0


def test_the_nightly_look_mends_what_lost_messages_left(scenario: Scenario, till: Till) -> None:
    till.pay(choose_plan(actor=scenario.alice, key="pro", once="1"))
    till.server.take_held()
    assert account(scenario).plan.key == "free"
    assert reconcile() == 1
    assert account(scenario).plan.key == "pro"
    assert reconcile() == 0


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**6), repeat=st.integers(1, 3))
def test_any_order_with_repeats_ends_in_the_same_state(
    scenario: Scenario, till: Till, seed: int, repeat: int
) -> None:
    till.server.control("reset")
    till.server.control("webhooks", mode="hold", url="http://127.0.0.1:9/", secret="whsec_test")
    call_command("stripe_sync")
    till.server.take_held()
    BillingAccount.objects.for_team(scenario.team).delete()
    StripeEvent.objects.all().delete()
    till.pay(choose_plan(actor=scenario.alice, key="pro", once=f"a{seed}"))
    till.server.control("advance", seconds=8 * DAY)
    choose_plan(actor=scenario.alice, key="team", once=f"b{seed}")
    till.server.control("advance", seconds=40 * DAY)
    choose_plan(actor=scenario.alice, key="free", once=f"c{seed}")
    BillingAccount.objects.for_team(scenario.team).update(status="", ends_at_period_end=False)
    assert set(till.deliver(order="shuffled", repeat=repeat, seed=seed)) == {200}
    assert state_of(scenario) == ("team", "active", True, False)


def test_forged_old_and_replayed_messages_change_nothing(scenario: Scenario, till: Till) -> None:
    till.pay(choose_plan(actor=scenario.alice, key="pro", once="1"))
    deliveries = till.server.take_held()
    first = deliveries[0]
    assert till.post(first.body, {}) == 400
    assert till.post(first.body + b" ", first.headers) == 400
    stamp, _comma, rest = first.headers["Stripe-Signature"].partition(",")
    old = f"t={int(stamp.removeprefix('t=')) - 400},{rest}"
    assert till.post(first.body, {"Stripe-Signature": old}) == 400
    assert not StripeEvent.objects.exists()
    for _again in range(2):
        assert till.post(first.body, first.headers) == 200
    assert StripeEvent.objects.count() == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_third_of_the_calls_failing_makes_nothing_twice(scenario: Scenario, till: Till, seed: int) -> None:
    till.server.control("faults", rate=0.3, seed=seed, kinds=["500", "drop_before", "drop_after", "429"])
    for once in ("1", "1", "1", "1", "1", "1"):
        try:
            address = choose_plan(actor=scenario.alice, key="pro", once=once)
            break
        except PaymentsUnavailable:
            assert account(scenario).plan.key == "free"
    till.server.control("faults")
    api = till.server.client().v1
    assert len(api.customers.list().data) == 1
    till.pay(address)
    till.server.control("faults", rate=0.3, seed=seed + 10, kinds=["500", "drop_before", "drop_after", "429"])
    for _try in range(8):
        try:
            choose_plan(actor=scenario.alice, key="team", once="2")
            break
        except (PaymentsUnavailable, Conflict):
            continue
    till.server.control("faults")
    till.deliver()
    reconcile()
    assert account(scenario).plan.key == "team"
    assert len(api.customers.list().data) == 1
    assert len(api.subscriptions.list({"status": "all"}).data) == 1


def test_stripe_being_away_stops_no_page(scenario: Scenario, till: Till, client: Any) -> None:
    subscribe(scenario, till)
    till.server.control("faults", rate=1.0, kinds=["500"])
    client.force_login(scenario.alice.user)
    page = client.get("/t/atelier/settings/plan/")
    assert page.status_code == 200
    assert "Pro" in page.content.decode()
    invoices = client.get("/t/atelier/settings/plan/?part=invoices").content.decode()
    assert "payment service does not answer" in invoices
    answer = client.post("/t/atelier/settings/plan/portal/", follow=True)
    assert "payment service does not answer" in answer.content.decode()
    till.server.control("faults")
    assert "Paid" in client.get("/t/atelier/settings/plan/?part=invoices").content.decode()


def test_only_who_looks_after_money_spends_it(scenario: Scenario, till: Till) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    for spend in (
        lambda: choose_plan(actor=editor, key="pro", once="1"),
        lambda: buy_top_up(actor=editor, key="gpu-60", once="1"),
        lambda: open_portal(actor=editor),
        lambda: set_spend_limit(actor=editor, cents=100),
    ):
        with pytest.raises(PermissionDenied):
            spend()
    payer = make_member(scenario.team, Role.BILLING)
    assert choose_plan(actor=payer, key="pro", once="1").startswith(till.server.url)
    set_spend_limit(actor=payer, cents=500)
    assert AuditEvent.objects.for_team(scenario.team).filter(verb="spend_limit.changed").exists()


def test_without_a_key_there_is_no_money_anywhere(scenario: Scenario, client: Any) -> None:
    client.force_login(scenario.alice.user)
    assert client.get("/pricing/").status_code == 404
    assert client.get("/t/atelier/settings/plan/").status_code == 404
    assert client.post("/stripe/webhook/", "{}", "application/json").status_code == 404
    with pytest.raises(NotFound):
        choose_plan(actor=scenario.alice, key="pro", once="1")
    for path in ("", "settings/", "settings/usage/", "trainings/new/", "projects/"):
        page = client.get(f"/t/atelier/{path}").content.decode().lower()
        assert not [
            word for word in ("$", "invoice", "settings/plan", "price") if word in page.replace("$(", "")
        ]


def test_a_price_that_changed_is_made_anew_and_takes_the_key_over(till: Till) -> None:
    api = till.server.client().v1
    Plan.objects.filter(key="pro").update(price_cents=2900)
    call_command("stripe_sync")
    call_command("stripe_sync")
    found = api.prices.list({"lookup_keys": ["plan_pro_monthly"]}).data
    assert [price.unit_amount for price in found] == [2900]
    assert len(api.prices.list({"product": "plan_pro", "limit": 100}).data) == 3


def test_an_operators_plan_outlives_the_nightly_look_at_an_old_subscription(
    scenario: Scenario, till: Till
) -> None:
    subscribe(scenario, till, "team")
    choose_plan(actor=scenario.alice, key="free", once="2")
    till.server.control("advance", seconds=32 * DAY)
    till.deliver()
    row = account(scenario)
    assert (row.plan.key, row.ends_at_period_end, row.period_end) == ("free", False, None)
    operator = User.objects.create_superuser("op@example.org", "a long pass phrase")
    put_on_plan(team=scenario.team, plan=Plan.objects.get(key="enterprise"), by=operator)
    assert reconcile() == 0
    assert account(scenario).plan.key == "enterprise"


def test_prices_that_were_never_made_at_stripe_are_an_answer_and_not_a_fault(
    scenario: Scenario, till: Till, client: Any
) -> None:
    Plan.objects.filter(key="pro").update(key="studio")
    client.force_login(scenario.alice.user)
    page = client.post("/t/atelier/settings/plan/choose/", {"plan": "studio", "once": "1"}, follow=True)
    assert (page.status_code, "does not answer" in page.content.decode()) == (200, True)


def test_another_persons_press_after_a_lost_answer_makes_no_second_customer(
    scenario: Scenario, till: Till
) -> None:
    payer = make_member(scenario.team, Role.BILLING)
    till.server.control("faults", script=["drop_after", "500", "500"])
    with pytest.raises(PaymentsUnavailable):
        choose_plan(actor=scenario.alice, key="pro", once="1")
    till.server.control("faults")
    choose_plan(actor=payer, key="pro", once="2")
    assert len(till.server.client().v1.customers.list().data) == 1


def alive(till: Till) -> list[str]:
    rows = till.server.client().v1.subscriptions.list({"status": "all"}).data
    return [row.status for row in rows if row.status in {"active", "trialing", "past_due"}]


def test_two_pages_that_are_both_paid_leave_one_subscription(scenario: Scenario, till: Till) -> None:
    first = choose_plan(actor=scenario.alice, key="pro", once="1")
    second = choose_plan(actor=scenario.alice, key="team", once="2")
    with pytest.raises(ValueError, match="expired"):
        till.pay(first)
    till.pay(second)
    till.deliver()
    assert (account(scenario).plan.key, alive(till)) == ("team", ["active"])


def test_a_price_that_changed_leaves_customers_on_their_plan(scenario: Scenario, till: Till) -> None:
    address = choose_plan(actor=scenario.alice, key="team", once="1")
    Plan.objects.filter(key="team").update(price_cents=12_900)
    call_command("stripe_sync")
    till.pay(address)
    till.deliver()
    assert account(scenario).plan.key == "team"


def test_a_downgrade_that_is_pressed_twice_still_comes(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "team")
    for _press in range(2):
        choose_plan(actor=scenario.alice, key="pro", once="2")
    planned = account(scenario).next_plan
    assert planned is not None
    assert planned.key == "pro"
    till.server.control("advance", seconds=40 * DAY)
    till.deliver()
    assert account(scenario).plan.key == "pro"


def test_a_cancellation_on_stripes_own_page_is_seen_and_taken_back(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "team")
    (found,) = gateway.subscriptions_of(account(scenario).stripe_customer)
    press(open_portal(actor=scenario.alice), action="cancel", subscription=found.id)
    till.deliver()
    assert account(scenario).ends_at_period_end
    choose_plan(actor=scenario.alice, key="team", once="2")
    assert not account(scenario).ends_at_period_end
    till.server.control("advance", seconds=40 * DAY)
    till.deliver()
    assert state_of(scenario)[:2] == ("team", "active")


def test_an_operators_plan_outlives_a_first_payment_that_never_came(scenario: Scenario, till: Till) -> None:
    put_on_plan(team=scenario.team, plan=Plan.objects.get(key="team"), by=scenario.alice.user)
    api = till.server.client().v1
    customer = gateway.make_customer(team_uid=scenario.team.uid, name="Atelier", email="a@example.org")
    BillingAccount.objects.for_team(scenario.team).update(stripe_customer=customer)
    price = api.prices.list({"lookup_keys": ["plan_pro_monthly"]}).data[0].id
    api.subscriptions.create(
        {"customer": customer, "items": [{"price": price}], "payment_behavior": "default_incomplete"}
    )
    till.deliver()
    assert state_of(scenario)[:2] == ("team", "incomplete")


def test_a_planned_downgrade_is_known_though_stripe_goes_away_after_it(
    scenario: Scenario, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(scenario, till, "team")
    downgrade = gateway.downgrade

    def then_away(*args: Any, **kwargs: Any) -> None:
        downgrade(*args, **kwargs)
        till.server.control("faults", rate=1.0, kinds=["500"])

    monkeypatch.setattr(gateway, "downgrade", then_away)
    choose_plan(actor=scenario.alice, key="pro", once="2")
    planned = account(scenario).next_plan
    assert planned is not None
    assert planned.key == "pro"


def test_a_deleted_team_pays_no_longer(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "team")
    delete_team(actor=scenario.alice, name=scenario.team.name)
    assert end_plans_of_deleted_teams() == 1
    assert account(scenario).ends_at_period_end
    Team.objects.filter(pk=scenario.team.pk).update(deleted_at=timezone.now() - timedelta(days=13, hours=1))
    assert end_plans_of_deleted_teams() == 1
    assert (account(scenario).status, alive(till)) == ("canceled", [])


def test_a_failed_payment_is_told_once_also_when_stripe_was_away_at_first(
    scenario: Scenario, till: Till
) -> None:
    subscribe(scenario, till, "team")
    till.server.control("card", customer=account(scenario).stripe_customer, outcome="declined")
    till.server.control("advance", seconds=32 * DAY)
    till.server.control("faults", rate=1.0, kinds=["500"])
    till.deliver()
    till.server.control("faults")
    till.work()
    till.work()
    failed = till.server.events("invoice.payment_failed")
    told = Notification.objects.filter(kind="plan.at_risk", subject_name__contains="another card")
    assert told.count() == len(failed) >= 1
