"""What time does to subscriptions, seen through the real library."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.stripe_server import StripeServer
from tests.stripe_server.shop import DAY, FEB_1, JAN_1, MAR_1, Shop


def test_a_month_later_the_subscription_is_renewed_and_paid(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    shop.server.control("advance", to=FEB_1)
    renewed = shop.api.subscriptions.retrieve(subscription.id)
    item = renewed["items"]["data"][0]
    assert (renewed.status, item.current_period_start, item.current_period_end) == ("active", FEB_1, MAR_1)
    newest, first = shop.invoices(subscription)
    assert (newest.billing_reason, newest.amount_paid, newest.created) == ("subscription_cycle", 1000, FEB_1)
    assert (newest.period_start, newest.period_end) == (JAN_1, FEB_1)
    assert (newest.lines.data[0].period.start, newest.lines.data[0].period.end) == (FEB_1, MAR_1)
    assert [first.number, newest.number] == [f"{(first.number or '')[:-5]}-000{n}" for n in (1, 2)]
    upcoming = shop.server.events("invoice.upcoming")
    assert [(event["created"], event["data"]["object"]["amount_due"]) for event in upcoming] == [
        (FEB_1 - 7 * DAY, 1000)
    ]


def test_the_last_of_january_leads_to_the_last_of_february_and_of_march() -> None:
    with StripeServer(now=JAN_1 + 30 * DAY) as server:
        shop = Shop(server)
        subscription = shop.subscribe(shop.price(1000))
        ends = []
        for _ in range(3):
            item = shop.api.subscriptions.retrieve(subscription.id)["items"]["data"][0]
            ends.append(datetime.fromtimestamp(item.current_period_end, UTC).strftime("%m-%d"))
            server.control("advance", to=item.current_period_end)
        assert ends == ["02-28", "03-31", "04-30"]


def test_a_debt_is_asked_for_three_more_times_and_then_the_subscription_is_unpaid(shop: Shop) -> None:
    customer = shop.customer()
    subscription = shop.subscribe(shop.price(1000), customer=customer)
    shop.server.control("card", customer=customer.id, outcome="declined")
    shop.server.control("advance", to=FEB_1)
    assert shop.status(subscription) == "past_due"
    attempts = []
    while (when := shop.invoices(subscription)[0].next_payment_attempt) is not None:
        attempts.append((when - FEB_1) // DAY)
        shop.server.control("advance", to=when)
    assert attempts == [3, 8, 15]
    assert shop.status(subscription) == "unpaid"
    assert len(shop.server.events("invoice.payment_failed")) == 4
    # Paying the debt by hand, with a card that works, makes it active again.
    shop.server.control("card", customer=customer.id, outcome="ok")
    debt = shop.invoices(subscription)[0]
    assert (debt.status, debt.attempt_count, debt.amount_remaining) == ("open", 4, 1000)
    assert shop.api.invoices.pay(debt.id).status == "paid"
    assert shop.status(subscription) == "active"


def test_a_debt_can_end_the_subscription_instead(shop: Shop) -> None:
    shop.server.control("settings", retry_days=[1], after_retries="canceled")
    customer = shop.customer()
    subscription = shop.subscribe(shop.price(1000), customer=customer)
    shop.server.control("card", customer=customer.id, outcome="declined")
    shop.server.control("advance", to=FEB_1 + DAY)
    ended = shop.api.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", FEB_1 + DAY)
    assert ended.cancellation_details is not None
    assert ended.cancellation_details.reason == "payment_failed"
    assert len(shop.server.events("customer.subscription.deleted")) == 1


def test_a_retry_that_works_ends_the_debt(shop: Shop) -> None:
    customer = shop.customer()
    subscription = shop.subscribe(shop.price(1000), customer=customer)
    shop.server.control("card", customer=customer.id, outcome="declined")
    shop.server.control("advance", to=FEB_1)
    shop.server.control("card", customer=customer.id, outcome="ok")
    shop.server.control("advance", seconds=3 * DAY)
    assert shop.status(subscription) == "active"
    assert shop.invoices(subscription)[0].status == "paid"


def test_a_trial_is_free_is_told_of_and_then_paid(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000), trial_period_days=14)
    assert (subscription.status, subscription.trial_end) == ("trialing", JAN_1 + 14 * DAY)
    assert [invoice.total for invoice in shop.invoices(subscription)] == [0]
    shop.server.control("advance", seconds=14 * DAY)
    assert shop.status(subscription) == "active"
    assert [invoice.total for invoice in shop.invoices(subscription)] == [1000, 0]
    told = shop.server.events("customer.subscription.trial_will_end")
    assert [event["created"] for event in told] == [JAN_1 + 11 * DAY]


def test_a_trial_can_be_ended_at_once(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000), trial_period_days=14)
    shop.server.control("advance", seconds=DAY)
    ended = shop.api.subscriptions.update(subscription.id, {"trial_end": "now"})
    assert (ended.status, ended.billing_cycle_anchor) == ("active", JAN_1 + DAY)
    assert shop.invoices(subscription)[0].amount_paid == 1000


def test_a_first_payment_that_never_comes_expires(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000), customer=shop.customer("declined"))
    assert subscription.status == "incomplete"
    shop.server.control("advance", seconds=23 * 3600)
    assert shop.status(subscription) == "incomplete_expired"
    assert shop.invoices(subscription)[0].status == "void"


def test_cancel_at_period_end_can_be_taken_back_and_ends_without_another_invoice(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    canceled = shop.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (canceled.status, canceled.cancel_at) == ("active", FEB_1)
    renewed = shop.api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (renewed.cancel_at, renewed.canceled_at) == (None, None)
    shop.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    shop.server.control("advance", to=FEB_1)
    assert shop.status(subscription) == "canceled"
    assert len(shop.invoices(subscription)) == 1
    assert shop.api.subscriptions.list().data == []
    assert [s.id for s in shop.api.subscriptions.list({"status": "all"}).data] == [subscription.id]


def test_canceling_at_once_can_give_back_the_unused_time_as_credit(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(3100))
    shop.server.control("advance", seconds=11 * DAY)
    assert (
        shop.api.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True}).status
        == "canceled"
    )
    assert shop.invoices(subscription)[0].total == -2000
    assert shop.api.customers.retrieve(str(subscription.customer)).balance == -2000


def test_a_test_clock_stops_and_moves_the_server(shop: Shop) -> None:
    clock = shop.api.test_helpers.test_clocks.create({"frozen_time": JAN_1})
    subscription = shop.subscribe(shop.price(1000))
    moved = shop.api.test_helpers.test_clocks.advance(clock.id, {"frozen_time": FEB_1})
    assert (moved.status, moved.frozen_time, shop.server.now) == ("ready", FEB_1, FEB_1)
    assert len(shop.invoices(subscription)) == 2
