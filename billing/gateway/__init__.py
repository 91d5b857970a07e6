"""Speak to Stripe: the only package that knows its library. Plain values go in and come out.

Every call that makes something carries an idempotency key made of what it is for, so that a call whose answer was
lost can be repeated. Stripe being away raises `PaymentsUnavailable`; only pages about money ask it anything.
"""

from __future__ import annotations

from billing.gateway.catalog import put_meter, put_price, put_product
from billing.gateway.checkout import close_checkouts, make_customer, open_checkout, open_portal
from billing.gateway.invoices import invoices_of, payments_of, read_event, report_usage
from billing.gateway.subscriptions import (
    cancel,
    downgrade,
    end_now,
    keep,
    set_seats,
    subscriptions_of,
    upgrade,
)
from billing.gateway.talking import is_on

__all__ = [
    "cancel",
    "close_checkouts",
    "downgrade",
    "end_now",
    "invoices_of",
    "is_on",
    "keep",
    "make_customer",
    "open_checkout",
    "open_portal",
    "payments_of",
    "put_meter",
    "put_price",
    "put_product",
    "read_event",
    "report_usage",
    "set_seats",
    "subscriptions_of",
    "upgrade",
]
