"""What goes beyond plan and top-ups is told in time, reported once, and stands on the next invoice."""

from __future__ import annotations

from accounts.roles import Role
from billing.models import BillingAccount, Kind, LedgerTransaction
from billing.services.ledger import add_bought, funds_of, hold, release, settle
from billing.services.purchases import choose_plan, set_spend_limit
from billing.tasks import report_overage
from core.models import OutboxMessage
from notifications.models import Notification
from tests.billing.plans import on_plan
from tests.billing.till import Till
from tests.factories import make_member
from tests.scenario import Scenario

DAY = 86_400


def told(scenario: Scenario) -> list[str]:
    rows = Notification.objects.filter(user=scenario.alice.user, kind="limit.near").order_by("seq")
    return list(rows.values_list("subject_name", flat=True))


def use(scenario: Scenario, job: str, seconds: int) -> None:
    hold(scenario.team, job_uid=job, seconds=seconds)
    settle(scenario.team, job_uid=job, attempt=1, seconds=seconds)
    release(scenario.team, job_uid=job)


def test_seconds_beyond_the_plan_are_reported_once_and_invoiced(scenario: Scenario, till: Till) -> None:
    till.pay(choose_plan(actor=scenario.alice, key="team", once="1"))
    till.deliver()
    set_spend_limit(actor=scenario.alice, cents=1_000)
    use(scenario, "trn_1", funds_of(scenario.team).allowance)
    assert not OutboxMessage.objects.filter(actor="report_overage").exists()
    use(scenario, "trn_2", 720)
    message = OutboxMessage.objects.get(actor="report_overage")
    for _again in range(3):
        report_overage(message.pk, message.subject_uid)
        OutboxMessage.objects.update(done_at=None, taken_until=None)
    till.server.control("advance", seconds=32 * DAY)
    api = till.server.client().v1
    customer = BillingAccount.objects.for_team(scenario.team).get().stripe_customer
    newest = api.invoices.list({"customer": customer, "limit": 1}).data[0]
    assert newest.total == 9_900 + 720 * 250 // 3600


def test_80_95_and_100_percent_are_each_told_once_to_who_pays(scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=1000)
    editor = make_member(scenario.team, Role.EDITOR)
    use(scenario, "trn_1", 700)
    assert told(scenario) == []
    use(scenario, "trn_2", 150)
    use(scenario, "trn_3", 50)
    assert told(scenario) == ["80 % of this month's GPU time is used"]
    use(scenario, "trn_4", 100)
    assert told(scenario)[1:] == ["100 % of this month's GPU time is used"]
    assert not Notification.objects.filter(user=editor.user).exists()


def test_the_spend_limit_has_alerts_of_its_own(scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=0, overage_cents_an_hour=360)
    BillingAccount.objects.for_team(scenario.team).update(spend_limit_cents=100)
    use(scenario, "trn_1", 960)
    assert told(scenario) == ["95 % of the spend limit is reached"]
    add_bought(scenario.team, seconds=500, key="topup:1")
    use(scenario, "trn_2", 500)
    assert len(told(scenario)) == 1
    assert LedgerTransaction.objects.for_team(scenario.team).filter(kind=Kind.SETTLE).count() == 2
