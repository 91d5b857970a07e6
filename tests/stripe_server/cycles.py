"""Carry out what time brings: renewals, retries, ends of trials, phases, notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tests.stripe_server.account import Account
from tests.stripe_server.clock import DAY, HOUR, next_boundary
from tests.stripe_server.forms import Obj
from tests.stripe_server.invoice_lines import period_lines, usage_lines
from tests.stripe_server.invoicing import (
    build_invoice,
    collect,
    issue,
    keep_invoice,
    subscription_of,
    take_pending,
)
from tests.stripe_server.schedules import next_phase
from tests.stripe_server.subscription_change import next_invoice
from tests.stripe_server.subscription_end import ENDED, bill_outstanding, end_subscription, expire_incomplete
from tests.stripe_server.subscription_start import set_period

FIRST_PAYMENT = 23 * HOUR  # how long an incomplete subscription waits
MOST_STEPS = 100_000


class Due(NamedTuple):
    when: int
    order: int  # at the same second: notices, then phases, then ends and renewals, then retries
    action: Callable[[], None]


def run_until(account: Account, when: int) -> None:
    """Carry out everything due up to `when`, each at its own time and in order, and leave the clock there."""
    for _ in range(MOST_STEPS):
        due = min(_due(account), key=lambda entry: entry[:2], default=None)
        if due is None or due.when > when:
            break
        # Never back: a notice can be late, where a trial was shortened.
        account.clock.pin(max(due.when, account.now))
        due.action()
    else:
        raise RuntimeError("The clock does not get on: something stays due after it was carried out.")
    account.clock.unpin()
    if when > account.now:
        account.clock.move_to(when)


def _due(account: Account) -> Iterator[Due]:
    for subscription in account.store.all("subscription"):
        if subscription["status"] not in ENDED:
            yield from _due_of(account, subscription)
    for schedule in account.store.all("subscription_schedule", status="active"):
        yield Due(schedule["current_phase"]["end_date"], 1, partial(next_phase, account, schedule))
    for invoice in account.store.all("invoice", status="open"):
        if invoice["next_payment_attempt"]:
            yield Due(invoice["next_payment_attempt"], 3, partial(_retry, account, invoice))
    for session in account.store.all("checkout.session", status="open"):
        yield Due(session["expires_at"], 0, partial(expire_session, account, session))


def _due_of(account: Account, subscription: Obj) -> Iterator[Due]:
    if subscription["status"] == "incomplete":
        yield Due(
            subscription["created"] + FIRST_PAYMENT, 2, partial(expire_incomplete, account, subscription)
        )
        return
    item = subscription["items"]["data"][0]
    start, end = item["current_period_start"], item["current_period_end"]
    cancel_at = subscription["cancel_at"]
    if cancel_at and cancel_at <= end:
        yield Due(cancel_at, 2, partial(_end, account, subscription))
    else:
        yield Due(end, 2, partial(renew, account, subscription))
    if subscription["status"] == "trialing":
        yield from _notice(account, subscription, "trial", end - 3 * DAY)
    elif not cancel_at and end - account.settings.upcoming_days * DAY > start:
        yield from _notice(account, subscription, "upcoming", end - account.settings.upcoming_days * DAY)


def _notice(account: Account, subscription: Obj, kind: str, when: int) -> Iterator[Due]:
    key = (subscription["id"], kind, subscription["items"]["data"][0]["current_period_end"])
    if key not in account.notices:
        yield Due(max(when, subscription["created"]), 0, partial(_tell, account, subscription, key))


def _tell(account: Account, subscription: Obj, key: tuple[str, str, int]) -> None:
    account.notices.add(key)
    if key[1] == "trial":
        account.emit("customer.subscription.trial_will_end", subscription)
    else:
        account.emit("invoice.upcoming", next_invoice(account, subscription, []))


def renew(account: Account, subscription: Obj) -> None:
    """Begin the next period: bill the usage of the last one, what waits, and the new period in advance."""
    item = subscription["items"]["data"][0]
    over = (item["current_period_start"], item["current_period_end"])
    trial, customer = subscription["status"] == "trialing", subscription["customer"]
    lines = [] if trial else usage_lines(account, subscription, over)
    waiting, pending = take_pending(account, customer, subscription["id"])
    with account.changing(subscription, "customer.subscription.updated"):
        recurring = item["price"]["recurring"]
        end = next_boundary(subscription["billing_cycle_anchor"], recurring, over[1])
        set_period(subscription, over[1], end)
        if trial:
            subscription["status"] = "active"
        invoice = build_invoice(
            account,
            customer=customer,
            lines=[*lines, *pending, *period_lines(account, subscription, (over[1], end))],
            reason="subscription_cycle",
            subscription=subscription,
            period=over,
        )
        keep_invoice(account, invoice, waiting)
    if subscription["status"] == "unpaid":
        # Stripe goes on making invoices and leaves them as drafts.
        invoice["auto_advance"] = False
        account.emit("invoice.created", invoice)
    else:
        issue(account, invoice)


def _end(account: Account, subscription: Obj) -> None:
    bill_outstanding(account, subscription)
    end_subscription(account, subscription, reason="cancellation_requested")


def _retry(account: Account, invoice: Obj) -> None:
    """Try to collect again; after the last attempt do with the subscription what the settings say."""
    invoice["next_payment_attempt"] = None
    if collect(account, invoice) or invoice["next_payment_attempt"]:
        return
    if not (identifier := subscription_of(invoice)):
        return
    subscription = account.store.get("subscription", identifier)
    if account.settings.after_retries == "canceled":
        end_subscription(account, subscription, reason="payment_failed")
    elif account.settings.after_retries == "unpaid":
        with account.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "unpaid"


def expire_session(account: Account, session: Obj) -> None:
    """Close a checkout session that nobody completed."""
    session.update(status="expired", url=None)
    account.emit("checkout.session.expired", session)
