"""Invoices, payments, reported usage, and the messages that Stripe signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import stripe
from django.conf import settings

from billing.gateway.catalog import METER
from billing.gateway.talking import talking
from billing.stripe_rows import BadSignature, Invoice, Payment, payment_of, time_of


def invoices_of(customer: str, count: int = 24) -> list[Invoice]:
    """Return the newest invoices of a customer."""
    with talking() as api:
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


def payments_of(customer: str) -> Iterator[Payment]:
    """Yield the newest hundred checkouts of a customer."""
    with talking() as api:
        for session in api.checkout.sessions.list({"customer": customer, "limit": 100}).data:
            yield payment_of(session)


def report_usage(*, customer: str, seconds: int, identifier: str) -> None:
    """Report GPU seconds for the next invoice; the same identifier counts once."""
    with talking() as api:
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
