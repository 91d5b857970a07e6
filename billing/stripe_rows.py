"""What Stripe says, as plain values, and how talking to it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.errors import DomainError

# How the ids of products begin, so that a subscription's items can be told apart.
PLAN_PRODUCT = "plan_"
SEAT_PRODUCT = "seat_"

# What a subscription is made of: lookup keys of prices, the plan's first, and how many of each; None for a meter's.
Lines = Mapping[str, int | None]


class PaymentsUnavailable(DomainError):
    """Say that the payment service cannot be reached now."""

    status = 503


class CardDeclined(DomainError):
    """Say that the customer's bank refused a payment."""

    status = 402


class BadSignature(Exception):
    """Say that a webhook was not signed by Stripe, or too long ago."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Hold what counts of a subscription. `product` is its plan's: prices change under it, it never does.

    `seats` are those beyond the plan's own.
    """

    id: str
    customer: str
    status: str
    product: str
    seats: int
    period_start: datetime | None
    period_end: datetime | None
    trial_end: datetime | None
    # `cancel_at_period_end` is our way, `cancel_at` (then) what Stripe's portal writes.
    ends_at_period_end: bool
    has_end_date: bool
    schedule: str
    created: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """Hold a line of the list of invoices."""

    id: str
    number: str
    status: str
    cents: int
    currency: str
    made_at: datetime
    page: str
    pdf: str


@dataclass(frozen=True, slots=True)
class Payment:
    """Hold a finished checkout: whose, for what (our own notes on it), and whether it was paid."""

    id: str
    customer: str
    notes: Mapping[str, str]
    is_paid: bool


def is_metered(price: Any) -> bool:
    """Tell whether a price is for what a meter counts."""
    return bool(price.recurring and price.recurring.usage_type == "metered")


def is_seat(price: Any) -> bool:
    """Tell whether a price is for seats beyond a plan's own."""
    return id_of(price.product).startswith(SEAT_PRODUCT)


def is_plan(price: Any) -> bool:
    """Tell whether a price is for a plan itself."""
    return not is_metered(price) and not is_seat(price)


def subscription_of(row: Any) -> Subscription:
    """Return a subscription of Stripe's as a plain value."""
    items = row["items"].data
    fixed = next((item for item in items if is_plan(item.price)), items[0])
    seats = next((item for item in items if is_seat(item.price)), None)
    return Subscription(
        id=str(row.id),
        customer=id_of(row.customer),
        status=str(row.status),
        product=id_of(fixed.price.product),
        seats=int(seats.quantity) if seats is not None else 0,
        period_start=time_of(fixed.current_period_start),
        period_end=time_of(fixed.current_period_end),
        trial_end=time_of(row.trial_end),
        ends_at_period_end=bool(row.cancel_at_period_end or row.cancel_at),
        has_end_date=bool(row.cancel_at and not row.cancel_at_period_end),
        schedule=id_of(row.schedule) if row.schedule else "",
        created=int(row.created),
    )


def payment_of(session: Any) -> Payment:
    """Return a checkout session of Stripe's as a plain value."""
    return Payment(
        id=str(session.id),
        customer=id_of(session.customer),
        notes=session.metadata.to_dict() if session.metadata else {},
        is_paid=session.status == "complete" and session.payment_status in {"paid", "no_payment_required"},
    )


def id_of(value: Any) -> str:
    """Return the id of something that is given as an id or whole."""
    return "" if value is None else str(getattr(value, "id", value))


def time_of(seconds: int | None) -> datetime | None:
    """Return a moment that Stripe gives in unix seconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
