"""A Stripe of our own that the app speaks to, and messages from it that arrive when a test says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.test import Client

from billing.models import BillingAccount, StripeEvent
from billing.services.purchases import choose_plan
from billing.webhooks import act_on
from tests.scenario import Scenario
from tests.stripe_server import StripeServer

SECRET = "whsec_test"


class Till:
    """The fake Stripe of one test, with everything on sale."""

    def __init__(self, server: StripeServer) -> None:
        self.server = server
        self.client = Client()

    def pay(self, address: str, outcome: str = "ok") -> None:
        """Pay on the page that `address` leads to."""
        self.server.control("pay", session=address.rpartition("/")[2], outcome=outcome)

    def deliver(self, order: str = "normal", repeat: int = 1, seed: int = 0) -> list[int]:
        """Post every held message to the inbox as Stripe would, then act on what came; return the answers."""
        answers = [
            self.post(delivery.body, delivery.headers)
            for delivery in self.server.take_held(order=order, repeat=repeat, seed=seed)
        ]
        self.work()
        return answers

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        signature = headers.get("Stripe-Signature", "")
        answer = self.client.post(
            "/stripe/webhook/", body, "application/json", headers={"Stripe-Signature": signature}
        )
        return int(answer.status_code)

    def work(self) -> None:
        """Act on every stored event, as the outbox would."""
        for row in StripeEvent.objects.order_by("pk"):
            act_on(row)


@contextmanager
def open_till(settings: Any, days_ago: int = 0) -> Iterator[Till]:
    """Take payments while the block runs; nothing it changes of `settings` outlives the test.

    With `days_ago` Stripe's clock stands still that long ago: what begins there has run for a while here.
    """
    now = int(time.time()) - days_ago * 86_400 if days_ago else None
    with StripeServer(webhook_secret=SECRET, now=now) as server:
        settings.STRIPE_SECRET_KEY = "sk_test_fake"
        settings.STRIPE_WEBHOOK_SECRET = SECRET
        settings.STRIPE_API_BASE = server.url
        settings.DEFAULT_PLAN = "free"
        server.control("webhooks", mode="hold", url="http://127.0.0.1:9/", secret=SECRET)
        call_command("stripe_sync")
        server.take_held()
        yield Till(server)


def account(scenario: Scenario) -> BillingAccount:
    """Return the team's account as it is now."""
    row: BillingAccount = (
        BillingAccount.objects.for_team(scenario.team).select_related("plan", "next_plan").get()
    )
    return row


def subscribe(scenario: Scenario, till: Till, key: str = "pro", once: str = "1") -> None:
    """Choose a plan, pay for it, and act on what Stripe tells."""
    till.pay(choose_plan(actor=scenario.alice, key=key, once=once))
    till.deliver()
