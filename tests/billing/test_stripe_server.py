"""What our own Stripe sells and how it is paid, seen through the real library over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.stripe_server import StripeServer
from tests.stripe_server.receiver import WebhookReceiver
from tests.stripe_server.shop import DAY, FEB_1, JAN_1, Shop, browse


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer(now=JAN_1, retry_delay=0) as server:
        yield server


@pytest.fixture
def shop(server: StripeServer) -> Shop:
    return Shop(server)


# Customers, products and prices


def test_a_customer_is_made_changed_found_and_deleted(shop: Shop) -> None:
    made = shop.api.customers.create({"email": "ada@example.com", "metadata": {"team": "7", "old": "x"}})
    changed = shop.api.customers.update(made.id, {"name": "Ada", "metadata": {"old": ""}})
    assert (changed.name, changed.metadata.to_dict() if changed.metadata else None) == ("Ada", {"team": "7"})
    assert made.id.startswith("cus_")
    assert made.livemode is False
    found = shop.api.customers.search({"query": "email:'ada@example.com' AND metadata['team']:'7'"})
    assert [customer.id for customer in found.data] == [made.id]
    assert shop.api.customers.delete(made.id).deleted is True
    assert shop.api.customers.list().data == []
    assert [event["type"] for event in shop.server.events()] == [
        "customer.created",
        "customer.updated",
        "customer.deleted",
    ]
    assert shop.server.events("customer.updated")[0]["data"]["previous_attributes"] == {
        "name": None,
        "metadata": {"team": "7", "old": "x"},
    }


def test_tax_ids_belong_to_a_customer(shop: Shop) -> None:
    customer = shop.customer()
    made = shop.api.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    assert (made.country, made.customer) == ("DE", customer.id)
    assert [tax_id.id for tax_id in shop.api.customers.tax_ids.list(customer.id).data] == [made.id]
    shop.api.customers.tax_ids.delete(customer.id, made.id)
    assert shop.api.customers.tax_ids.list(customer.id).data == []


def test_a_lookup_key_finds_its_price_and_can_be_handed_over(shop: Shop) -> None:
    old = shop.price(1000, "pro_monthly")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.price(1200, "pro_monthly")
    assert (refused.value.code, refused.value.param) == ("resource_already_exists", "lookup_key")
    new = shop.api.prices.create(
        {
            "currency": "usd",
            "product": shop.product.id,
            "unit_amount": 1200,
            "lookup_key": "pro_monthly",
            "transfer_lookup_key": True,
        }
    )
    assert (new.type, new.recurring) == ("one_time", None)
    found = shop.api.prices.list({"lookup_keys": ["pro_monthly"], "active": True, "product": shop.product.id})
    assert [price.id for price in found.data] == [new.id]
    assert shop.api.prices.retrieve(old.id).lookup_key is None


def test_pages_go_from_newest_to_oldest_and_the_library_walks_them(shop: Shop) -> None:
    made = [shop.api.products.create({"name": f"Product {n}"}).id for n in range(5)][::-1]
    made.append(shop.product.id)
    first = shop.api.products.list({"limit": 4})
    assert ([product.id for product in first.data], first.has_more) == (made[:4], True)
    rest = shop.api.products.list({"limit": 4, "starting_after": made[3]})
    assert ([product.id for product in rest.data], rest.has_more) == (made[4:], False)
    assert [p.id for p in shop.api.products.list({"limit": 2}).auto_paging_iter()] == made


# Errors


def test_errors_say_what_stripe_says(shop: Shop) -> None:
    with pytest.raises(stripe.AuthenticationError):
        shop.server.client("sk_live_oops").v1.products.list()
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_none'") as missing:
        shop.api.customers.retrieve("cus_none")
    assert (missing.value.http_status, missing.value.code, missing.value.param) == (
        404,
        "resource_missing",
        "id",
    )
    with pytest.raises(stripe.InvalidRequestError) as incomplete:
        shop.api.subscriptions.create({"customer": shop.customer().id})
    assert (incomplete.value.code, incomplete.value.param) == ("parameter_missing", "items")
    unknown: Any = {"name": "x", "colour": "red"}
    with pytest.raises(stripe.InvalidRequestError) as strange:
        shop.api.products.create(unknown)
    assert (strange.value.code, strange.value.param) == ("parameter_unknown", "colour")


def test_a_declined_card_is_a_card_error_and_nothing_begins(shop: Shop) -> None:
    customer = shop.customer("declined")
    with pytest.raises(stripe.CardError) as declined:
        shop.subscribe(shop.price(1000), customer=customer, payment_behavior="error_if_incomplete")
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert shop.api.subscriptions.list({"status": "all"}).data == []
    bare = shop.api.customers.create()
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        shop.subscribe(shop.price(1000), customer=bare)


def test_expand_puts_objects_in_place_of_ids(shop: Shop) -> None:
    made = shop.subscribe(shop.price(1000))
    plain = shop.api.subscriptions.retrieve(made.id)
    assert isinstance(plain.latest_invoice, str)
    paths = ["customer", "latest_invoice.payments.data.payment.payment_intent", "items.data.price.product"]
    full = shop.api.subscriptions.retrieve(made.id, {"expand": paths})
    data: Any = full.to_dict()
    assert data["customer"]["name"] == "Ada"
    assert data["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"]["amount"] == 1000
    assert data["items"]["data"][0]["price"]["product"]["name"] == "Pro"
    listed: Any = shop.api.subscriptions.list({"expand": ["data.customer"]}).data[0].to_dict()
    assert listed["customer"]["name"] == "Ada"
    assert "payments" not in shop.api.invoices.retrieve(plain.latest_invoice)
    with pytest.raises(stripe.InvalidRequestError, match=r"cannot be expanded \(nonsense\)"):
        shop.api.subscriptions.retrieve(made.id, {"expand": ["nonsense"]})


# Checkout


def test_a_paid_checkout_makes_a_subscription_and_signed_events() -> None:
    with WebhookReceiver() as receiver, StripeServer(now=JAN_1, webhook_url=receiver.url) as server:
        shop = Shop(server)
        session = shop.checkout(
            shop.price(1000),
            client_reference_id="team-7",
            metadata={"team": "7"},
            subscription_data={"metadata": {"team": "7"}},
        )
        assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 1000)
        status, page, _ = browse(session.url or "")
        assert status == 200
        assert "Pro × 1: 10.00 USD" in page
        assert 'href="https://app.test/plans"' in page
        status, _, location = browse(session.url or "", card="ok", email="ada@example.com")
        assert (status, location) == (303, f"https://app.test/done?session={session.id}")
        server.wait_for_webhooks()
        assert receiver.types == [
            "customer.created",
            "customer.subscription.created",
            "invoice.created",
            "invoice.finalized",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice.paid",
            "invoice.payment_succeeded",
            "checkout.session.completed",
        ]
        done = receiver.received[-1]["data"]["object"]
        assert (done["status"], done["payment_status"], done["url"]) == ("complete", "paid", None)
        assert (done["client_reference_id"], done["metadata"]) == ("team-7", {"team": "7"})
        subscription = shop.api.subscriptions.retrieve(done["subscription"])
        item = subscription["items"]["data"][0]
        assert (subscription.status, subscription.metadata.to_dict()) == ("active", {"team": "7"})
        assert (item.current_period_start, item.current_period_end) == (JAN_1, FEB_1)
        invoice = shop.api.invoices.retrieve(done["invoice"])
        assert (invoice.status, invoice.amount_paid, invoice.billing_reason) == (
            "paid",
            1000,
            "subscription_create",
        )
        assert invoice.parent is not None
        assert invoice.parent.subscription_details is not None
        assert invoice.parent.subscription_details.subscription == subscription.id


def test_paying_twice_makes_one_subscription(shop: Shop) -> None:
    session = shop.checkout(shop.price(1000))
    answers = [browse(session.url or "", card="ok") for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(shop.api.subscriptions.list().data) == 1


def test_a_declined_checkout_stays_open_and_can_be_paid_then(shop: Shop) -> None:
    session = shop.checkout(shop.price(1000), customer=shop.customer().id)
    status, page, _ = browse(session.url or "", card="declined")
    assert status == 402
    assert "Your card was declined." in page
    assert shop.api.checkout.sessions.retrieve(session.id).status == "open"
    assert shop.api.subscriptions.list().data == []
    assert len(shop.server.events("payment_intent.payment_failed")) == 1
    assert shop.server.control("pay", session=session.id) == {"paid": True}
    assert shop.api.checkout.sessions.retrieve(session.id).status == "complete"


def test_a_single_payment_needs_no_customer(shop: Shop) -> None:
    line: Any = {
        "quantity": 3,
        "price_data": {"currency": "usd", "unit_amount": 500, "product_data": {"name": "GPU hours"}},
    }
    session = shop.checkout(
        shop.price(1), mode="payment", line_items=[line], payment_intent_data={"metadata": {"a": "b"}}
    )
    shop.server.control("pay", session=session.id)
    paid = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent", "line_items"]})
    data: Any = paid.to_dict()
    assert (data["customer"], data["subscription"], data["payment_status"]) == (None, None, "paid")
    assert (data["payment_intent"]["amount"], data["payment_intent"]["metadata"]) == (1500, {"a": "b"})
    assert data["line_items"]["data"][0]["description"] == "GPU hours"


def test_a_checkout_expires_when_asked_and_after_a_day(shop: Shop) -> None:
    first, second = shop.checkout(shop.price(1000)), shop.checkout(shop.price(2000))
    assert shop.api.checkout.sessions.expire(first.id).status == "expired"
    assert browse(first.url or "")[0] == 410
    shop.server.control("advance", seconds=DAY)
    assert shop.api.checkout.sessions.retrieve(second.id).status == "expired"
    expired = [event["data"]["object"]["id"] for event in shop.server.events("checkout.session.expired")]
    assert expired == [first.id, second.id]


def test_checkout_refuses_what_stripe_refuses(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="recurring price"):
        shop.checkout(shop.price(1000), mode="payment")
    with pytest.raises(stripe.InvalidRequestError, match=r"customer_update\[name\]"):
        shop.checkout(shop.price(1000), customer=shop.customer().id, tax_id_collection={"enabled": True})


# Invoices, refunds, usage


def test_an_invoice_item_waits_for_the_next_invoice_and_shows_in_the_preview(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    customer = str(subscription.customer)
    shop.api.invoice_items.create(
        {"customer": customer, "amount": 250, "currency": "usd", "description": "Setup"}
    )
    preview = shop.api.invoices.create_preview({"customer": customer, "subscription": subscription.id})
    assert (preview.amount_due, [line.amount for line in preview.lines.data]) == (1250, [250, 1000])
    shop.server.control("advance", to=FEB_1)
    invoice = shop.invoices(subscription)[0]
    assert invoice.amount_paid == 1250
    assert [line.description for line in shop.api.invoices.line_items.list(invoice.id).data] == [
        "Setup",
        "1 × Pro (at $10.00 / month)",
    ]
    status, page, _ = browse(invoice.hosted_invoice_url or "")
    assert status == 200
    assert "Total: 12.50 USD" in page
    assert browse(invoice.invoice_pdf or "")[1].startswith("%PDF-1.4")


def test_refunds_never_exceed_what_was_paid(shop: Shop) -> None:
    session = shop.checkout(shop.price(1000))
    shop.server.control("pay", session=session.id)
    intent = shop.api.payment_intents.list().data[0]
    first = shop.api.refunds.create(
        {"payment_intent": intent.id, "amount": 400, "metadata": {"why": "lost work"}}
    )
    assert (first.amount, first.status, first.charge) == (400, "succeeded", intent.latest_charge)
    with pytest.raises(
        stripe.InvalidRequestError, match=r"\(\$6.01\) is greater than .* \(\$6.00\)"
    ) as refused:
        shop.api.refunds.create({"payment_intent": intent.id, "amount": 601})
    assert refused.value.param == "amount"
    shop.api.refunds.create({"charge": str(intent.latest_charge)})
    charge = shop.api.charges.retrieve(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (1000, True)
    with pytest.raises(stripe.InvalidRequestError) as over:
        shop.api.refunds.create({"payment_intent": intent.id})
    assert over.value.code == "charge_already_refunded"
    assert [refund.amount for refund in shop.api.refunds.list().data] == [600, 400]
    assert len(shop.server.events("charge.refunded")) == 2
    assert len(shop.server.events("refund.created")) == 2


def test_usage_is_counted_once_and_billed_with_the_next_invoice(shop: Shop) -> None:
    meter = shop.api.billing.meters.create(
        {"display_name": "GPU", "event_name": "gpu_seconds", "default_aggregation": {"formula": "sum"}}
    )
    metered = shop.api.prices.create(
        {
            "currency": "usd",
            "product": shop.product.id,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [{"up_to": 100, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.5"}],  # type: ignore[typeddict-item]
        }
    )
    base = shop.price(1000)
    subscription = shop.subscribe(base, items=[{"price": base.id}, {"price": metered.id}])
    customer = str(subscription.customer)
    assert shop.invoices(subscription)[0].total == 1000

    def use(value: int, identifier: str) -> None:
        payload = {"stripe_customer_id": customer, "value": str(value)}
        shop.api.billing.meter_events.create(
            {"event_name": "gpu_seconds", "payload": payload, "identifier": identifier}
        )

    use(60, "job-1")
    with pytest.raises(stripe.InvalidRequestError, match="An event already exists with identifier job-1"):
        use(60, "job-1")
    shop.server.control("advance", seconds=DAY)
    use(241, "job-2")
    summaries = shop.api.billing.meters.event_summaries.list(
        meter.id,
        {
            "customer": customer,
            "start_time": JAN_1,
            "end_time": JAN_1 + 2 * DAY,
            "value_grouping_window": "day",
        },
    )
    assert [summary.aggregated_value for summary in summaries.data] == [60, 241]
    shop.server.control("advance", to=FEB_1)
    lines = [(line.amount, line.quantity) for line in shop.invoices(subscription)[0].lines.data]
    assert lines == [(101, 301), (1000, 1)]  # (301 - 100) × 0.5 cents = 100.5, halves up


# Portal


def test_the_portal_cancels_renews_and_changes_the_card(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    portal = shop.api.billing_portal.sessions.create(
        {"customer": str(subscription.customer), "return_url": "https://app.test/billing"}
    )
    assert "Cancel subscription" in browse(portal.url)[1]
    answer = browse(portal.url, action="cancel", subscription=subscription.id)
    assert (answer[0], answer[2]) == (303, "https://app.test/billing")
    assert shop.api.subscriptions.retrieve(subscription.id).cancel_at == FEB_1
    browse(portal.url, action="renew", subscription=subscription.id)
    assert shop.api.subscriptions.retrieve(subscription.id).cancel_at is None
    browse(portal.url, action="card", card="declined")
    shop.server.control("advance", to=FEB_1)
    assert shop.status(subscription) == "past_due"
    # The debt is paid on the invoice's own page, as Stripe's mails ask for.
    debt = shop.invoices(subscription)[0].hosted_invoice_url or ""
    assert "Status: <strong>paid</strong>" in browse(debt, card="ok")[1]
    assert shop.status(subscription) == "active"


def test_a_portal_shows_only_what_its_configuration_allows(shop: Shop) -> None:
    subscription = shop.subscribe(shop.price(1000))
    made = shop.api.billing_portal.configurations.create(
        {"features": {"payment_method_update": {"enabled": True}}, "business_profile": {"headline": "Us"}}
    )
    assert [c.id for c in shop.api.billing_portal.configurations.list().data] == [made.id]
    portal = shop.api.billing_portal.sessions.create(
        {"customer": str(subscription.customer), "configuration": made.id}
    )
    page = browse(portal.url)[1]
    assert "Use card 4242" in page
    assert "Cancel subscription" not in page
