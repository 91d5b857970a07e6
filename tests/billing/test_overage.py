"""What goes beyond plan and top-ups is told in time, reported once, and stands on the next invoice."""

from __future__ import annotations

from accounts.roles import Role
from billing import gateway
from billing.entitlements import plan_of
from billing.models import BillingAccount, Kind, LedgerTransaction
from billing.selectors import plan_page
from billing.services.ledger import add_bought, funds_of, hold, raise_allowance, release, settle
from billing.services.purchases import choose_plan, set_spend_limit
from billing.tasks import report_overage
from core.models import OutboxMessage
from notifications.models import Notification
from tests.billing.plans import on_plan
from tests.billing.till import Till, account, subscribe
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


def test_the_last_months_overage_is_invoiced_also_when_a_smaller_plan_begins(
    scenario: Scenario, till: Till
) -> None:
    subscribe(scenario, till, "team")
    gateway.report_usage(customer=account(scenario).stripe_customer, seconds=7_200, identifier="x")
    choose_plan(actor=scenario.alice, key="pro", once="2")
    till.server.control("advance", seconds=33 * DAY)
    newest = till.server.client().v1.invoices.list({"limit": 1}).data[0]
    assert newest.total == 2_400 + 2 * 250


def test_overage_of_a_deleted_team_is_invoiced_with_the_end(scenario: Scenario, till: Till) -> None:
    subscribe(scenario, till, "team")
    gateway.report_usage(customer=account(scenario).stripe_customer, seconds=7_200, identifier="x")
    till.server.control("advance", seconds=60)
    (current,) = gateway.subscriptions_of(account(scenario).stripe_customer)
    gateway.end_now(current)
    gateway.end_now(current)
    totals = [row.total for row in till.server.client().v1.invoices.list({}).data]
    assert sorted(totals) == [2 * 250, 9_900]


def test_alerts_and_the_page_count_from_what_was_granted(scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=1000)
    funds = funds_of(scenario.team)
    assert funds.allowance == 1000
    before = plan_of(scenario.team)
    on_plan(scenario, "team", gpu_seconds_a_month=10_000)
    raise_allowance(scenario.team, before=before, share=0.1)
    assert funds_of(scenario.team).allowance == 1_900
    use(scenario, "trn_1", 1_400)
    assert told(scenario) == []
    page = plan_page(scenario.alice)
    assert (page.allowance, page.allowance_percent) == (1_900, 26)
    use(scenario, "trn_2", 200)
    assert told(scenario) == ["80 % of this month's GPU time is used"]
