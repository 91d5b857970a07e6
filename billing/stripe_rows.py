"""What Stripe says, as plain values, and how talking to it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from core.errors import DomainError


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
    """Hold what counts of a subscription. `product` is its plan's: prices change under it, it never does."""

    id: str
    customer: str
    status: str
    product: str
    item: str
    period_end: datetime | None
    trial_end: datetime | None
    ends_at_period_end: bool
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
