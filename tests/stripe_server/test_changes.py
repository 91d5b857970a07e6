"""What changes of subscriptions cost, seen through the real library."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_server.shop import DAY, FEB_1, JAN_1, MAR_1, Shop


def test_an_upgrade_is_prorated_by_the_second_and_billed_at_once(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    dear, item = shop.price(3000), subscription["items"]["data"][0]
    shop.server.control("advance", seconds=31 * DAY // 2)
    details: Any = {"items": [{"id": item.id, "price": dear.id}], "proration_behavior": "always_invoice"}
    preview = shop.api.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": details}
    )
    assert (preview.amount_due, len(shop.invoices(subscription))) == (1000, 1)
    changed = shop.api.subscriptions.update(subscription.id, details)
    assert changed["items"]["data"][0].price.id == dear.id
    invoice = shop.invoices(subscription)[0]
    assert (invoice.billing_reason, invoice.amount_paid, invoice.status) == (
        "subscription_update",
        1000,
        "paid",
    )
    lines = [(line.amount, line.description) for line in invoice.lines.data]
    assert lines == [
        (-500, "Unused time on 1 × Pro after 16 Jan 2026"),
        (1500, "Remaining time on 1 × Pro after 16 Jan 2026"),
    ]
    parent = invoice.lines.data[0].parent
    assert parent is not None
    assert parent.subscription_item_details is not None
    assert (
        parent.subscription_item_details.proration,
        parent.subscription_item_details.subscription_item,
    ) == (
        True,
        item.id,
    )


def test_prorations_wait_for_the_next_invoice_unless_told_otherwise(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000), items=[{"price": shop.price(1000).id, "quantity": 1}])
    item = subscription["items"]["data"][0]
    shop.server.control("advance", seconds=31 * DAY // 2)
    shop.api.subscriptions.update(subscription.id, {"items": [{"id": item.id, "quantity": 3}]})
    assert len(shop.invoices(subscription)) == 1
    shop.server.control("advance", to=FEB_1)
    invoice = shop.invoices(subscription)[0]
    assert [line.amount for line in invoice.lines.data] == [-500, 1500, 3000]
    assert invoice.amount_paid == 4000


def test_without_prorations_a_change_costs_nothing_until_the_renewal(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    item = subscription["items"]["data"][0]
    shop.api.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "quantity": 2}], "proration_behavior": "none"}
    )
    shop.server.control("advance", to=FEB_1)
    assert [invoice.total for invoice in shop.invoices(subscription)] == [2000, 1000]


def test_from_a_month_to_a_year_a_new_period_begins_and_is_billed_at_once(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(3100))
    shop.server.control("advance", seconds=11 * DAY)
    yearly, item = shop.price(30_000, interval="year"), subscription["items"]["data"][0]
    changed = shop.api.subscriptions.update(subscription.id, {"items": [{"id": item.id, "price": yearly.id}]})
    assert [line.amount for line in shop.invoices(subscription)[0].lines.data] == [-2000, 30_000]
    assert changed["items"]["data"][0].current_period_end == JAN_1 + (365 + 11) * DAY


def test_a_change_without_the_items_id_adds_a_second_item(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    changed = shop.api.subscriptions.update(subscription.id, {"items": [{"price": shop.price(3000).id}]})
    assert len(changed["items"]["data"]) == 2
    first = changed["items"]["data"][0]
    with pytest.raises(stripe.InvalidRequestError, match="same plan"):
        shop.api.subscriptions.update(subscription.id, {"items": [{"price": first.price.id}]})


def test_a_declined_upgrade_changes_nothing_if_asked_so(shop: Shop) -> None:
    customer = shop.customer()
    subscription = shop.subscribe(shop.price(1000), customer=customer)
    shop.server.control("card", customer=customer.id, outcome="declined")
    before = shop.api.subscriptions.retrieve(subscription.id).to_dict()
    item: Any = {"id": subscription["items"]["data"][0].id, "price": shop.price(3000).id}
    with pytest.raises(stripe.CardError):
        shop.api.subscriptions.update(
            subscription.id,
            {
                "items": [item],
                "proration_behavior": "always_invoice",
                "payment_behavior": "error_if_incomplete",
            },
        )
    assert shop.api.subscriptions.retrieve(subscription.id).to_dict() == before
    assert len(shop.invoices(subscription)) == 1


def test_a_schedule_downgrades_at_the_end_of_the_period_and_lets_go(shop: Shop) -> None:
    subscription, cheap = shop.subscribe(shop.price(3000)), shop.price(1000)
    schedule = shop.api.subscription_schedules.create({"from_subscription": subscription.id})
    now = schedule.phases[0]
    phases: Any = [
        {
            "items": [{"price": now["items"][0].price, "quantity": 1}],
            "start_date": now.start_date,
            "end_date": now.end_date,
        },
        {"items": [{"price": cheap.id, "quantity": 1}], "duration": {"interval": "month"}},
    ]
    shop.api.subscription_schedules.update(schedule.id, {"phases": phases, "end_behavior": "release"})
    with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
        shop.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    shop.server.control("advance", to=FEB_1 - 1)
    assert shop.api.subscriptions.retrieve(subscription.id)["items"]["data"][0].price.unit_amount == 3000
    shop.server.control("advance", to=MAR_1)
    after = shop.api.subscriptions.retrieve(subscription.id)
    assert (after["items"]["data"][0].price.id, after.schedule) == (cheap.id, None)
    assert [invoice.total for invoice in shop.invoices(subscription)] == [1000, 1000, 3000]
    over = shop.api.subscription_schedules.retrieve(schedule.id)
    assert (over.status, over.released_subscription) == ("released", subscription.id)


def test_a_schedule_can_be_released_before(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(3000))
    schedule = shop.api.subscription_schedules.create({"from_subscription": subscription.id})
    assert shop.api.subscription_schedules.release(schedule.id).status == "released"
    assert shop.api.subscriptions.retrieve(subscription.id).schedule is None
    kinds = [e["type"] for e in shop.server.events() if e["type"].startswith("subscription_schedule.")]
    assert kinds == ["subscription_schedule.created", "subscription_schedule.released"]
