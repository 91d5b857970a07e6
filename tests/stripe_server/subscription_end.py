"""End subscriptions: at once, at the end of a period, or because nobody paid."""

from __future__ import annotations

from tests.stripe_server.account import Account
from tests.stripe_server.forms import Obj
from tests.stripe_server.invoice_lines import proration_item, usage_lines
from tests.stripe_server.invoicing import (
    build_invoice,
    issue,
    keep_invoice,
    stop_collecting,
    take_pending,
    void,
)
from tests.stripe_server.prorating import share_left

ENDED = ("canceled", "incomplete_expired")


def end_subscription(
    account: Account, subscription: Obj, *, reason: str, prorate: bool = False, invoice_now: bool = False
) -> None:
    """Cancel now; `prorate` gives back the unused time, `invoice_now` bills what is outstanding."""
    if subscription["status"] in ENDED:
        return
    if prorate and subscription["status"] != "trialing":
        _credit_unused(account, subscription)
    if invoice_now:
        bill_outstanding(account, subscription)
    if schedule := subscription["schedule"]:
        _end_schedule(account, account.store.get("subscription_schedule", schedule))
    stop_collecting(account, subscription["id"])
    subscription.update(
        status="canceled",
        canceled_at=subscription["canceled_at"] or account.now,
        ended_at=account.now,
        schedule=None,
    )
    subscription["cancellation_details"] = subscription["cancellation_details"] | {"reason": reason}
    account.emit("customer.subscription.deleted", subscription)


def expire_incomplete(account: Account, subscription: Obj) -> None:
    """Give up on a first payment that did not come within 23 hours."""
    with account.changing(subscription, "customer.subscription.updated"):
        subscription.update(status="incomplete_expired", ended_at=account.now)
    void(account, account.store.get("invoice", subscription["latest_invoice"]))


def bill_outstanding(account: Account, subscription: Obj) -> None:
    """Send the last invoice: usage so far and whatever waits. None where there is nothing to bill."""
    item = subscription["items"]["data"][0]
    period = (item["current_period_start"], min(account.now, item["current_period_end"]))
    trial = subscription["status"] == "trialing"
    lines = [] if trial else [line for line in usage_lines(account, subscription, period) if line["amount"]]
    items, pending = take_pending(account, subscription["customer"], subscription["id"])
    if not lines and not items:
        return
    invoice = build_invoice(
        account,
        customer=subscription["customer"],
        lines=[*lines, *pending],
        reason="subscription_cycle",
        subscription=subscription,
    )
    issue(account, keep_invoice(account, invoice, items))


def _credit_unused(account: Account, subscription: Obj) -> None:
    for item in subscription["items"]["data"]:
        end = item["current_period_end"]
        if credit := share_left(account, item, account.now):
            period = (account.now, end)
            account.store.add(proration_item(account, item, subscription["customer"], -credit, period))


def _end_schedule(account: Account, schedule: Obj) -> None:
    schedule.update(status="canceled", canceled_at=account.now, current_phase=None)
    account.emit("subscription_schedule.canceled", schedule)
