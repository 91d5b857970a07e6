"""Act upon what Stripe told: which events matter, and what each makes us ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing.models import BillingAccount, EventState, StripeEvent
from billing.services.subscriptions import refresh
from billing.services.tell import tell_paid, tell_payment_failed

# Everything that may change a subscription or a payment; the rest is stored and left alone.
WATCHED = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.resumed",
        "invoice.paid",
        "invoice.payment_failed",
        "subscription_schedule.updated",
        "subscription_schedule.released",
    }
)

TOLD: dict[str, Callable[[BillingAccount, str], None]] = {
    "invoice.paid": tell_paid,
    "invoice.payment_failed": tell_payment_failed,
}


def handle(event: StripeEvent) -> EventState:
    """Act upon an event and return what became of it. May run twice: it asks Stripe, and asking twice is the same."""
    found: dict[str, Any] = event.payload["data"]["object"]
    customer = found.get("customer")
    if event.kind not in WATCHED or not isinstance(customer, str):
        return EventState.IGNORED
    account = BillingAccount.unscoped.select_related("team", "plan").filter(stripe_customer=customer).first()
    if account is None:
        return EventState.IGNORED  # a customer of another product on the same Stripe account
    refresh(account)
    if event.kind in TOLD:
        with transaction.atomic():
            if StripeEvent.objects.filter(pk=event.pk, told_at=None).update(told_at=timezone.now()):
                TOLD[event.kind](account, str(found["id"]))
    return EventState.DONE
