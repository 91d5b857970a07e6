"""Sell something in tests, in short words, and look at pages as a browser does."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from typing import Any

import stripe

from tests.stripe_server import StripeServer

DAY = 86_400
JAN_1 = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
FEB_1 = JAN_1 + 31 * DAY
MAR_1 = FEB_1 + 28 * DAY


class Shop:
    """Sell one product at several prices, with short words for what the tests do over and over."""

    def __init__(self, server: StripeServer) -> None:
        self.server = server
        self.client = server.client()
        self.api = self.client.v1
        self.product = self.api.products.create({"name": "Pro"})

    def price(self, cents: int, key: str | None = None, interval: str = "month") -> stripe.Price:
        params: Any = {"currency": "usd", "product": self.product.id, "unit_amount": cents}
        params["recurring"] = {"interval": interval}
        return self.api.prices.create(params | ({"lookup_key": key} if key else {}))

    def customer(self, outcome: str = "ok") -> stripe.Customer:
        customer = self.api.customers.create({"email": "ada@example.com", "name": "Ada"})
        self.server.control("card", customer=customer.id, outcome=outcome)
        return customer

    def subscribe(self, price: stripe.Price, **params: Any) -> stripe.Subscription:
        customer = params.pop("customer", None) or self.customer()
        asked: Any = {"customer": customer.id, "items": [{"price": price.id}]}
        return self.api.subscriptions.create(asked | params)

    def checkout(self, price: stripe.Price, **params: Any) -> stripe.checkout.Session:
        asked: Any = {
            "mode": "subscription",
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": "https://app.test/done?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://app.test/plans",
        }
        return self.api.checkout.sessions.create(asked | params)

    def invoices(self, subscription: stripe.Subscription) -> list[stripe.Invoice]:
        return self.api.invoices.list({"subscription": subscription.id}).data

    def status(self, subscription: stripe.Subscription) -> str:
        return self.api.subscriptions.retrieve(subscription.id).status


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the address it names belongs to nobody."""

    def redirect_request(self, *_: Any) -> None:
        return None


def browse(url: str, **form: str) -> tuple[int, str, str]:
    """Return status, text and Location of a page; with form fields, of posting them."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        answer = opener.open(url, urllib.parse.urlencode(form).encode() if form else None, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        # A PDF is no text, and what a test looks for in it is plain.
        text = answer.read().decode(errors="replace")
        return answer.status, text, answer.headers.get("Location", "")
