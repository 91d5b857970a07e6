"""Begin subscriptions: with a trial, with a first payment, or waiting for one."""

from __future__ import annotations

from tests.stripe_server.account import Account
from tests.stripe_server.cards import card_of, works
from tests.stripe_server.clock import DAY, next_boundary
from tests.stripe_server.errors import declined, no_card
from tests.stripe_server.forms import Obj
from tests.stripe_server.invoice_lines import period_lines
from tests.stripe_server.invoicing import build_invoice, finalize, issue, keep_invoice, take_pending
from tests.stripe_server.prorating import check_items, new_subscription_item
from tests.stripe_server.store import list_object, new_id


def build_subscription(account: Account, customer: str, asked: list[Obj], **fields: object) -> Obj:
    """Return a subscription that is not kept yet; `trial_end` among the fields begins it with a trial."""
    identifier, now = new_id("sub"), account.now
    items = [
        new_subscription_item(account, identifier, entry, f"items[{place}]")
        for place, entry in enumerate(asked)
    ]
    check_items(items)
    subscription: Obj = {
        "id": identifier,
        "object": "subscription",
        "application": None,
        "automatic_tax": {"enabled": False, "liability": None, "disabled_reason": None},
        "billing_cycle_anchor": now,
        "billing_mode": {"type": "classic", "flexible": None},
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": items[0]["price"]["currency"],
        "customer": customer,
        "days_until_due": None,
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "items": list_object(items, f"/v1/subscription_items?subscription={identifier}"),
        "latest_invoice": None,
        "livemode": False,
        "metadata": {},
        "pause_collection": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "active",
        "test_clock": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    }
    subscription.update(fields)
    begin_period(subscription, now)
    return subscription


def begin_period(subscription: Obj, now: int) -> None:
    """Set the first period: the trial where there is one, else one interval from now."""
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    trial_end = subscription["trial_end"]
    end = trial_end or next_boundary(now, recurring, now)
    subscription["billing_cycle_anchor"] = trial_end or now
    if trial_end:
        subscription.update(status="trialing", trial_start=now)
    set_period(subscription, now, end)


def set_period(subscription: Obj, start: int, end: int) -> None:
    for item in subscription["items"]["data"]:
        item.update(current_period_start=start, current_period_end=end)


def start_subscription(
    account: Account, subscription: Obj, extra: list[Obj], behavior: str = "allow_incomplete"
) -> Obj:
    """Keep a subscription and bill its first period together with `extra` lines.

    `behavior` is Stripe's payment_behavior. A card that is declined leaves it incomplete, or raises 402
    under error_if_incomplete; a customer without a card is refused unless nothing is due now.
    """
    customer, trial = subscription["customer"], subscription["status"] == "trialing"
    item = subscription["items"]["data"][0]
    period = (item["current_period_start"], item["current_period_end"])
    waiting, pending = take_pending(account, customer, None)
    lines = [*extra, *pending, *period_lines(account, subscription, period, trial=trial)]
    invoice = build_invoice(
        account, customer=customer, lines=lines, reason="subscription_create", subscription=subscription
    )
    card = card_of(account, customer, subscription)
    later = behavior == "default_incomplete"
    if invoice["amount_due"] and not later:
        if card is None:
            raise no_card()
        if behavior == "error_if_incomplete" and not works(account, card):
            raise declined()
    if invoice["amount_due"] and (later or not works(account, card)):
        subscription["status"] = "incomplete"
    account.store.add(subscription)
    if lines:
        keep_invoice(account, invoice, waiting)
    account.emit("customer.subscription.created", subscription)
    _tell_of_short_trial(account, subscription)
    if not lines:
        return subscription
    if later and invoice["amount_due"]:
        account.emit("invoice.created", invoice)
        finalize(account, invoice)
    else:
        issue(account, invoice)
    return subscription


def _tell_of_short_trial(account: Account, subscription: Obj) -> None:
    """Tell at once of a trial that ends within three days."""
    end = subscription["trial_end"]
    if end and end - account.now <= 3 * DAY:
        account.notices.add((subscription["id"], "trial", end))
        account.emit("customer.subscription.trial_will_end", subscription)
