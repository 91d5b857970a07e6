"""Short jobs of the billing app, sent through the outbox."""

from __future__ import annotations

from billing import gateway
from billing.models import Account, LedgerEntry, StripeEvent
from billing.services.subscriptions import account_for
from billing.webhooks import act_on
from core.outbox import short_job


@short_job(queue_name="default", most_failures=10)
def act_on_stripe_event(event_uid: str) -> None:
    """Act upon what Stripe told; a failure is tried again, and kept for the operator after the last."""
    row = StripeEvent.objects.filter(uid=event_uid).first()
    if row is not None and not act_on(row):
        raise RuntimeError(f"{row} failed: see the inbox")


@short_job(queue_name="default", most_failures=20)
def report_overage(transaction_uid: str) -> None:
    """Report the invoiced part of a settlement to Stripe's meter; the transaction's id counts once there."""
    entry = (
        LedgerEntry.unscoped.select_related("team")
        .filter(transaction__uid=transaction_uid, account=Account.HELD_OVERAGE)
        .first()
    )
    if entry is None or not gateway.is_on():
        return
    customer = account_for(entry.team).stripe_customer
    if customer:
        gateway.report_usage(customer=customer, seconds=-entry.seconds, identifier=transaction_uid)
