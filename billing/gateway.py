"""Speak to Stripe: the only module that knows its library. Plain values go in and come out.

Every call that makes something carries an idempotency key made of what it is for, so that a call whose answer was
lost can be repeated. Stripe being away raises `PaymentsUnavailable`; only pages about money ask it anything.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import stripe
from django.conf import settings
from django.utils.translation import gettext as _

from billing.stripe_rows import (
    BadSignature,
    CardDeclined,
    Invoice,
    Payment,
    PaymentsUnavailable,
    Subscription,
    is_metered,
    payment_of,
    subscription_of,
    time_of,
)

log = logging.getLogger(__name__)

METER = "gpu_seconds"
CURRENCY = "usd"


def is_on() -> bool:
    """Tell whether this installation takes payments (`STRIPE_SECRET_KEY`)."""
    return bool(settings.STRIPE_SECRET_KEY)


# -- What is sold -----------------------------------------------------------------------------------------------


def put_product(key: str, name: str) -> str:
    """Make or rename the product of a plan or a top-up and return its id."""
    with _talking() as api:
        try:
            return str(api.products.update(key, {"name": name, "active": True}).id)
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
        made = api.products.create({"id": key, "name": name}, _once(f"product:{key}"))
        return str(made.id)


def put_price(
    *, product: str, lookup_key: str, cents: float, every_month: bool, meter: str | None = None
) -> str:
    """Return the id of the price behind `lookup_key`, made anew where its amount changed.

    Prices never change at Stripe: the new one takes the key over, and subscriptions keep the old one until they move.
    """
    with _talking() as api:
        found = list(api.prices.list({"lookup_keys": [lookup_key], "limit": 1}).data)
        amount = f"{cents:.12f}".rstrip("0").rstrip(".")
        if found and _amount(found[0]) == amount and found[0].active:
            return str(found[0].id)
        before = found[0].id if found else "none"
        params: dict[str, Any] = {
            "product": product,
            "currency": CURRENCY,
            "unit_amount_decimal": amount,
            "lookup_key": lookup_key,
            "transfer_lookup_key": True,
        }
        if every_month:
            params["recurring"] = {"interval": "month"}
            if meter is not None:
                params["recurring"] |= {"usage_type": "metered", "meter": meter}
        return str(api.prices.create(params, _once(f"price:{lookup_key}:{amount}:{before}")).id)  # type: ignore[arg-type]


def put_meter() -> str:
    """Return the id of the meter that counts GPU seconds to be invoiced; make it if it is not there."""
    with _talking() as api:
        for meter in api.billing.meters.list({"limit": 100}).data:
            if meter.event_name == METER and meter.status == "active":
                return str(meter.id)
        made = api.billing.meters.create(
            {
                "display_name": "GPU seconds",
                "event_name": METER,
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                "value_settings": {"event_payload_key": "value"},
            },
            _once(f"meter:{METER}"),
        )
        return str(made.id)


# -- Who buys ---------------------------------------------------------------------------------------------------


def make_customer(*, team_uid: str, name: str, email: str) -> str:
    """Make the customer of a team and return its id; the same team gets the same customer again."""
    with _talking() as api:
        # Made of what never changes, so that the key fits whoever presses, and named after that.
        made = api.customers.create({"metadata": {"team": team_uid}}, _once(f"customer:{team_uid}"))
        api.customers.update(made.id, {"name": name, "email": email})
        return str(made.id)


def open_checkout(
    *,
    customer: str,
    prices: list[str],
    back: str,
    subscribe: bool,
    notes: Mapping[str, str],
    trial_days: int = 0,
    once: str,
) -> str:
    """Open a page of Stripe's where the customer pays, and return its address. `back` is where it leads back to.

    `prices` are lookup keys. `once` names this press of the button: a double click opens one page.
    """
    with _talking() as api:
        ids = _price_ids(api, prices)
        items: list[dict[str, Any]] = [
            {"price": found.id} if is_metered(found) else {"price": found.id, "quantity": 1} for found in ids
        ]
        params: dict[str, Any] = {
            "mode": "subscription" if subscribe else "payment",
            "customer": customer,
            "customer_update": {"name": "auto", "address": "auto"},
            "line_items": items,
            "success_url": f"{back}?paid={{CHECKOUT_SESSION_ID}}",
            "cancel_url": back,
            "metadata": dict(notes),
            "tax_id_collection": {"enabled": True},
        }
        if subscribe:
            params["subscription_data"] = {"metadata": dict(notes)}
            if trial_days:
                params["subscription_data"]["trial_period_days"] = trial_days
        else:
            params["invoice_creation"] = {"enabled": True}
        session = api.checkout.sessions.create(params, _once(f"checkout:{once}"))  # type: ignore[arg-type]
        return str(session.url)


def open_portal(*, customer: str, back: str) -> str:
    """Open Stripe's page for cards, tax ids and invoices, and return its address."""
    with _talking() as api:
        return str(api.billing_portal.sessions.create({"customer": customer, "return_url": back}).url)


# -- Subscriptions ----------------------------------------------------------------------------------------------


def subscriptions_of(customer: str) -> list[Subscription]:
    """Return every subscription of a customer, ended ones too, the newest first."""
    with _talking() as api:
        found = api.subscriptions.list({"customer": customer, "status": "all", "limit": 100})
        return sorted((subscription_of(each) for each in found.data), key=lambda each: -each.created)


def upgrade(subscription: Subscription, *, price_key: str, overage_key: str | None, once: str) -> None:
    """Move to a larger plan at once; what is left of the month is set off and the difference invoiced now."""
    with _talking() as api:
        _leave_schedule(api, subscription)
        wanted = _price_ids(api, [price_key, *([overage_key] if overage_key else [])])
        params: dict[str, Any] = {
            "items": _exchange(api, subscription, wanted),
            "proration_behavior": "always_invoice",
            "cancel_at_period_end": False,
            # A card that is declined changes nothing, and a trial of a small plan is none of a large one.
            "payment_behavior": "error_if_incomplete",
        }
        if subscription.status == "trialing":
            params["trial_end"] = "now"
        api.subscriptions.update(subscription.id, params, _once(f"upgrade:{subscription.id}:{once}"))  # type: ignore[arg-type]


def downgrade(subscription: Subscription, *, price_key: str, overage_key: str | None, once: str) -> None:
    """Move to a smaller plan when the month that is paid has ended."""
    with _talking() as api:
        _leave_schedule(api, subscription)
        if subscription.ends_at_period_end:
            api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
        wanted = _price_ids(api, [price_key, *([overage_key] if overage_key else [])])
        schedule = api.subscription_schedules.create(
            {"from_subscription": subscription.id},
            _once(f"schedule:{subscription.id}:{subscription.schedule}:{once}"),
        )
        now = schedule.phases[0]
        kept = [_line(str(item.price)) for item in now["items"]]
        phases: list[Any] = [
            {"items": kept, "start_date": now.start_date, "end_date": now.end_date},
            {"items": [_line(each.id) for each in wanted], "proration_behavior": "none"},
        ]
        metered = {each.id for each in wanted if is_metered(each)} | _metered_items(api, subscription)
        for phase in phases:
            for line in phase["items"]:
                if line["price"] in metered:
                    line.pop("quantity")
        params: dict[str, Any] = {"end_behavior": "release", "phases": phases}
        api.subscription_schedules.update(schedule.id, params, _once(f"phases:{schedule.id}:{once}"))  # type: ignore[arg-type]


def cancel(subscription: Subscription, *, once: str) -> None:
    """End a subscription when the month that is paid has ended."""
    with _talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.update(
            subscription.id, {"cancel_at_period_end": True}, _once(f"cancel:{subscription.id}:{once}")
        )


def end_now(subscription: Subscription) -> None:
    """End a subscription at once; one that has ended already stays so."""
    with _talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.cancel(subscription.id)


def close_checkouts(customer: str, *, but: str) -> None:
    """Close the pages on which a customer could still pay for another subscription than the one named `but`."""
    with _talking() as api:
        for session in api.checkout.sessions.list({"customer": customer, "limit": 100}).data:
            notes = session.metadata.to_dict() if session.metadata else {}
            if session.status == "open" and session.mode == "subscription" and notes.get("once") != but:
                api.checkout.sessions.expire(session.id)


def keep(subscription: Subscription, *, once: str) -> None:
    """Take a cancellation or a planned downgrade back."""
    with _talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.update(
            subscription.id, {"cancel_at_period_end": False}, _once(f"keep:{subscription.id}:{once}")
        )


# -- Invoices, payments, usage ----------------------------------------------------------------------------------


def invoices_of(customer: str, count: int = 24) -> list[Invoice]:
    """Return the newest invoices of a customer."""
    with _talking() as api:
        rows = api.invoices.list({"customer": customer, "limit": count}).data
        return [
            Invoice(
                id=str(row.id),
                number=row.number or "",
                status=row.status or "",
                cents=row.total,
                currency=row.currency,
                made_at=time_of(row.created) or datetime.now(UTC),
                page=row.hosted_invoice_url or "",
                pdf=row.invoice_pdf or "",
            )
            for row in rows
        ]


def payment(session: str) -> Payment:
    """Return a checkout as it stands now."""
    with _talking() as api:
        return payment_of(api.checkout.sessions.retrieve(session))


def payments_of(customer: str) -> Iterator[Payment]:
    """Yield the newest hundred checkouts of a customer."""
    with _talking() as api:
        for session in api.checkout.sessions.list({"customer": customer, "limit": 100}).data:
            yield payment_of(session)


def report_usage(*, customer: str, seconds: int, identifier: str) -> None:
    """Report GPU seconds for the next invoice; the same identifier counts once."""
    with _talking() as api:
        try:
            api.billing.meter_events.create(
                {
                    "event_name": METER,
                    "identifier": identifier,
                    "payload": {"stripe_customer_id": customer, "value": str(seconds)},
                }
            )
        except stripe.InvalidRequestError as error:
            # Stripe answers a repeat with an error and no code of its own.
            if "already exists" not in str(error.user_message or error):
                raise


def read_event(payload: bytes, signature: str) -> dict[str, Any]:
    """Return a webhook's event; raise BadSignature for one that Stripe did not sign within five minutes."""
    try:
        stripe.Webhook.construct_event(payload, signature, settings.STRIPE_WEBHOOK_SECRET)  # type: ignore[no-untyped-call]
    except (ValueError, stripe.SignatureVerificationError) as error:
        raise BadSignature(str(error)) from error
    # As it came: the library would turn amounts into its own types.
    found: dict[str, Any] = json.loads(payload)
    return found


# -- Inside -----------------------------------------------------------------------------------------------------


@contextmanager
def _talking() -> Iterator[Any]:
    """Give the API, and turn what goes wrong on the way into PaymentsUnavailable."""
    addresses: Any = {"api": settings.STRIPE_API_BASE} if settings.STRIPE_API_BASE else None
    client = stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        base_addresses=addresses,
        max_network_retries=2,
        http_client=stripe.RequestsClient(timeout=10),
    )
    try:
        yield client.v1
    except stripe.CardError as error:
        raise CardDeclined(
            "card_declined", _("The card was declined. Put in another one and try again.")
        ) from error
    except (stripe.StripeError, LookupError) as error:
        # Away, or asked for something it refuses: the person can do nothing about either.
        if not isinstance(error, stripe.APIConnectionError | stripe.RateLimitError | stripe.APIError):
            log.exception("Stripe refused a call")
        raise PaymentsUnavailable(
            "payments_unavailable",
            _("The payment service does not answer. Nothing was charged; try again in a few minutes."),
        ) from error


def _once(key: str) -> Any:
    return {"idempotency_key": f"lf:{key}"}


def _price_ids(api: Any, lookup_keys: list[str]) -> list[Any]:
    found = {price.lookup_key: price for price in api.prices.list({"lookup_keys": lookup_keys}).data}
    missing = [key for key in lookup_keys if key not in found]
    if missing:
        raise LookupError(f"Stripe has no price for {', '.join(missing)}: run manage.py stripe_sync.")
    return [found[key] for key in lookup_keys]


def _exchange(api: Any, subscription: Subscription, wanted: list[Any]) -> list[dict[str, Any]]:
    """Return items that turn those of a subscription into `wanted`: the old ones go, the new ones come."""
    there = api.subscriptions.retrieve(subscription.id)["items"].data
    fixed = next(item for item in there if not is_metered(item.price))
    items: list[dict[str, Any]] = [{"id": fixed.id, "price": wanted[0].id, "quantity": 1}]
    items += [
        {"id": item.id, "deleted": True, "clear_usage": False} for item in there if is_metered(item.price)
    ]
    return items + [{"price": each.id} for each in wanted[1:]]


def _metered_items(api: Any, subscription: Subscription) -> set[str]:
    there = api.subscriptions.retrieve(subscription.id)["items"].data
    return {str(item.price.id) for item in there if is_metered(item.price)}


def _line(price: str) -> dict[str, Any]:
    return {"price": price, "quantity": 1}


def _leave_schedule(api: Any, subscription: Subscription) -> None:
    """A subscription under a schedule refuses changes of its own: let go of the schedule first."""
    if subscription.schedule:
        api.subscription_schedules.release(subscription.schedule)


def _amount(price: Any) -> str:
    text = str(price.unit_amount_decimal if price.unit_amount_decimal is not None else price.unit_amount)
    return text.rstrip("0").rstrip(".") if "." in text else text
