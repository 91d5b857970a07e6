"""A payment that failed: told at once and again before the grace ends, and then the plan ends, with nothing lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.roles import Role
from billing.duties import look_after_past_due
from billing.models import BillingAccount
from billing.tasks import mail_past_due, mail_plan_ended
from core.models import OutboxMessage
from notifications.models import NotificationChoice
from tests.billing.till import Till, account, subscribe
from tests.factories import make_member
from tests.scenario import Scenario

DAY = 86_400


@pytest.fixture
def past_due(scenario: Scenario, till: Till) -> BillingAccount:
    subscribe(scenario, till, "team")
    row = account(scenario)
    till.server.control("card", customer=row.stripe_customer, outcome="declined")
    till.server.control("advance", seconds=32 * DAY)
    till.deliver()
    row.refresh_from_db()
    assert row.status == "past_due"
    return row


def failed_ago(account: BillingAccount, days: int) -> None:
    since = timezone.now() - timedelta(days=days)
    BillingAccount.unscoped.filter(pk=account.pk).update(past_due_since=since)


def sent(actor: Any) -> int:
    return OutboxMessage.objects.filter(actor=actor.actor_name).count()


def test_who_pays_is_written_to_in_their_language(
    past_due: BillingAccount, scenario: Scenario, mailoutbox: list[Any]
) -> None:
    payer = make_member(scenario.team, Role.BILLING, language="zh-hans").user
    make_member(scenario.team, Role.EDITOR)
    never = make_member(scenario.team, Role.BILLING).user
    NotificationChoice.objects.create(user=never, kind="plan.at_risk", mail="never")
    assert sent(mail_past_due) >= 1
    mail_past_due(OutboxMessage.objects.filter(actor="mail_past_due").latest("pk").pk, scenario.team.uid)
    by_address = {mail.to[0]: mail for mail in mailoutbox}
    assert set(by_address) == {scenario.alice.user.email, payer.email}
    english = by_address[scenario.alice.user.email]
    assert english.subject == "Atelier: a payment failed"
    until = timezone.now() + timedelta(days=14)
    assert f"{until.day}, {until.year}" in english.body
    assert f"/t/{scenario.team.slug}/settings/plan/" in english.body
    assert "付款" in by_address[payer.email].subject


def test_a_reminder_comes_once_three_days_before_the_end(past_due: BillingAccount) -> None:
    before = sent(mail_past_due)
    failed_ago(past_due, 10)
    assert look_after_past_due() == 0
    assert sent(mail_past_due) == before
    failed_ago(past_due, 12)
    look_after_past_due()
    look_after_past_due()
    assert sent(mail_past_due) == before + 1


def test_when_the_grace_is_over_the_plan_ends_and_everything_stays(
    past_due: BillingAccount, scenario: Scenario, mailoutbox: list[Any]
) -> None:
    failed_ago(past_due, 14)
    assert look_after_past_due() == 1
    past_due.refresh_from_db()
    assert (past_due.plan.key, past_due.status, past_due.past_due_since) == ("free", "canceled", None)
    assert past_due.data_kept_until is not None
    assert past_due.data_kept_until > timezone.now() + timedelta(days=29)
    mail_plan_ended(OutboxMessage.objects.get(actor="mail_plan_ended").pk, scenario.team.uid)
    (mail,) = mailoutbox
    assert mail.subject == "Atelier: the paid plan has ended"
    assert look_after_past_due() == 0


def test_a_payment_a_moment_before_the_end_keeps_the_plan(
    past_due: BillingAccount, scenario: Scenario, till: Till
) -> None:
    till.server.control("card", customer=past_due.stripe_customer, outcome="ok")
    till.server.control("advance", seconds=8 * DAY)  # Stripe tries again; its message is not here yet
    failed_ago(past_due, 15)
    look_after_past_due()
    past_due.refresh_from_db()
    assert (past_due.plan.key, past_due.status, past_due.past_due_since) == ("team", "active", None)


def test_stripe_being_away_at_the_end_is_tried_again(past_due: BillingAccount, till: Till) -> None:
    failed_ago(past_due, 15)
    till.server.control("faults", rate=1.0, kinds=["500"])
    assert look_after_past_due() == 0
    till.server.control("faults")
    assert look_after_past_due() == 1
