"""Larger plans: at once, for the part of the month that is paid for, and never by an answer that is old."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import gateway
from billing.duties import reconcile
from billing.models import Plan
from billing.services.ledger import funds_of
from billing.services.purchases import choose_plan
from billing.services.subscriptions import refresh
from billing.stripe_rows import CardDeclined, Subscription
from tests.billing.till import Till, account, open_till, subscribe
from tests.scenario import Scenario

DAY = 86_400


def test_an_upgrade_whose_card_is_declined_changes_nothing(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "pro")
    till.server.control("advance", seconds=8 * DAY)
    till.deliver()
    till.server.control("card", customer=account(scenario).stripe_customer, outcome="declined")
    with pytest.raises(CardDeclined):
        choose_plan(actor=scenario.alice, key="team", once="2")
    reconcile()
    assert (account(scenario).plan.key, account(scenario).status) == ("pro", "active")


def test_a_trial_of_a_small_plan_is_none_of_a_large_one(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "pro")
    assert account(scenario).status == "trialing"
    choose_plan(actor=scenario.alice, key="team", once="2")
    assert (account(scenario).plan.key, account(scenario).status) == ("team", "active")
    invoices = till.server.client().v1.invoices.list({"customer": account(scenario).stripe_customer}).data
    assert invoices[0].total == 9_900


def test_an_upgrade_late_in_the_month_gives_the_part_that_is_paid_for(
    scenario: Scenario, settings: Any
) -> None:
    with open_till(settings, days_ago=25) as till:
        Plan.objects.filter(key="pro").update(trial_days=0)
        till.pay(choose_plan(actor=scenario.alice, key="pro", once="1"))
        reconcile()
        assert funds_of(scenario.team).allowance == 18_000
        till.server.control("advance", seconds=25 * DAY)
        choose_plan(actor=scenario.alice, key="team", once="2")
        row = account(scenario)
        assert row.period_end is not None
        left = row.period_end - timezone.now()
        assert timedelta(days=2) < left < timedelta(days=7)
        gained = funds_of(scenario.team).allowance - 18_000
        assert 2 / 31 < gained / (90_000 - 18_000) < 7 / 28
        reconcile()
        assert funds_of(scenario.team).allowance == 18_000 + gained


def test_an_answer_older_than_what_was_written_meanwhile_is_asked_for_again(
    scenario: Scenario, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(scenario, till, "pro")
    asked: list[str] = []

    def slow(customer: str) -> list[Subscription]:
        found = ask(customer)
        asked.append(customer)
        if len(asked) == 1:  # while this answer is on its way, somebody upgrades
            choose_plan(actor=scenario.alice, key="team", once="2")
        return found

    ask = gateway.subscriptions_of
    monkeypatch.setattr(gateway, "subscriptions_of", slow)
    refresh(account(scenario))
    assert account(scenario).plan.key == "team"
