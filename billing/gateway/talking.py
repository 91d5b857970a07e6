"""Open a line to Stripe, and turn what goes wrong on it into errors of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import stripe
from django.conf import settings
from django.utils.translation import gettext as _

from billing.stripe_rows import CardDeclined, Lines, PaymentsUnavailable

log = logging.getLogger(__name__)


def is_on() -> bool:
    """Tell whether this installation takes payments (`STRIPE_SECRET_KEY`)."""
    return bool(settings.STRIPE_SECRET_KEY)


@contextmanager
def talking() -> Iterator[Any]:
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
        if error.code == "subscription_payment_intent_requires_action":
            raise CardDeclined(
                "card_needs_confirmation",
                _(
                    "Your bank wants to confirm this card. Put it in again under “Card and tax ids”, where that is "
                    "possible, and try again."
                ),
            ) from error
        raise CardDeclined(
            "card_declined", _("The card was declined. Put in another one and try again.")
        ) from error
    except (stripe.StripeError, LookupError) as error:
        # Away, or asked for something it refuses: the person can do nothing about either.
        if not isinstance(error, stripe.APIConnectionError | stripe.RateLimitError | stripe.APIError):
            log.exception("Stripe refused a call")
        raise PaymentsUnavailable(
            "payments_unavailable",
            _(
                "The payment service does not answer. Look at plan and invoices in a few minutes, before you try again."
            ),
        ) from error


def once_for(key: str) -> Any:
    return {"idempotency_key": f"lf:{key}"}


def prices_of(api: Any, lookup_keys: list[str]) -> list[Any]:
    found = {price.lookup_key: price for price in api.prices.list({"lookup_keys": lookup_keys}).data}
    missing = [key for key in lookup_keys if key not in found]
    if missing:
        raise LookupError(f"Stripe has no price for {', '.join(missing)}: run manage.py stripe_sync.")
    return [found[key] for key in lookup_keys]


def lines_of(api: Any, lines: Lines) -> list[dict[str, Any]]:
    """Return what is bought as Stripe takes it, in order."""
    prices = prices_of(api, list(lines))
    return [line_of(price, quantity) for price, quantity in zip(prices, lines.values(), strict=True)]


def line_of(price: Any, quantity: int | None) -> dict[str, Any]:
    """Return one line; what a meter counts has no quantity."""
    return {"price": price.id} if quantity is None else {"price": price.id, "quantity": quantity}
