"""Change what is subscribed to, and bill the difference as `proration_behavior` says."""

from __future__ import annotations

from dataclasses import dataclass

from tests.stripe_server.account import Account
from tests.stripe_server.cards import card_of, works
from tests.stripe_server.clock import next_boundary
from tests.stripe_server.errors import declined, invalid
from tests.stripe_server.forms import Obj
from tests.stripe_server.invoice_lines import line_of_item, period_lines, usage_lines
from tests.stripe_server.invoicing import build_invoice, issue, keep_invoice, take_pending
from tests.stripe_server.prorating import Change
from tests.stripe_server.subscription_start import set_period

BEHAVIORS = ("create_prorations", "always_invoice", "none")


@dataclass
class Draft:
    """Hold what a change would do: the subscription after it, what it would bill and whether at once."""

    after: Obj
    waiting: list[Obj]  # invoice items that wait already
    added: list[Obj]  # and those the change adds
    lines: list[Obj]
    bills_now: bool


def draft_change(
    account: Account, subscription: Obj, change: Change, behavior: str, when: int, *, reset: bool = False
) -> Draft:
    """Work a change out without carrying it out. A new interval, or `reset`, begins a new period at `when`."""
    if behavior not in BEHAVIORS:
        message = f"Invalid proration_behavior: must be one of {', '.join(BEHAVIORS)}"
        raise invalid(message, "proration_behavior")
    customer, trial = subscription["customer"], subscription["status"] == "trialing"
    reset = (reset or change.new_interval) and not trial
    if reset:
        # Everything begins anew, also what stays the same.
        change.gone, change.fresh = list(subscription["items"]["data"]), []
        change.new_interval = True
    after = subscription | {"items": subscription["items"] | {"data": change.items}}
    added: list[Obj] = []
    # "none" bills neither the rest of a period nor the usage of a metered item that goes.
    if not trial and behavior != "none":
        added = change.last_usage(account, customer, when) + change.prorations(account, customer, when)
    waiting, lines = take_pending(account, customer, subscription["id"])
    lines += [line_of_item(item) for item in added]
    if reset:
        start, recurring = account.now, change.items[0]["price"]["recurring"]
        after["billing_cycle_anchor"] = start
        set_period(after, start, next_boundary(start, recurring, start))
        lines += period_lines(account, after, (start, next_boundary(start, recurring, start)))
    return Draft(after, waiting, added, lines, bills_now=reset or behavior == "always_invoice")


def carry_out(
    account: Account, subscription: Obj, draft: Draft, payment_behavior: str, **fields: object
) -> None:
    """Make the change, tell of it once together with `fields`, and bill it now or with the next invoice."""
    invoice = None
    if draft.bills_now and draft.lines:
        invoice = change_invoice(account, draft)
        card = card_of(account, subscription["customer"], subscription)
        refuses = payment_behavior == "error_if_incomplete" and not works(account, card)
        if refuses and invoice["amount_due"]:
            raise declined()
    with account.changing(subscription, "customer.subscription.updated"):
        subscription.update(draft.after | fields)
        for item in draft.added:
            account.store.add(item)
        if invoice:
            keep_invoice(account, invoice, [*draft.waiting, *draft.added])
    if invoice:
        issue(account, invoice)


def change_invoice(account: Account, draft: Draft) -> Obj:
    after = draft.after
    return build_invoice(
        account,
        customer=after["customer"],
        lines=draft.lines,
        reason="subscription_update",
        subscription=after,
    )


def next_invoice(account: Account, subscription: Obj, added: list[Obj], *, ending: bool = False) -> Obj:
    """Return what the coming renewal would bill: usage so far, what waits, and the period after; not kept."""
    item = subscription["items"]["data"][0]
    start, end = item["current_period_start"], item["current_period_end"]
    trial = subscription["status"] == "trialing"
    _, lines = take_pending(account, subscription["customer"], subscription["id"])
    lines += [line_of_item(extra) for extra in added]
    if not trial:
        lines = [*usage_lines(account, subscription, (start, end)), *lines]
    if not ending:
        period = (end, next_boundary(subscription["billing_cycle_anchor"], item["price"]["recurring"], end))
        lines += period_lines(account, subscription, period)
    invoice = build_invoice(
        account,
        customer=subscription["customer"],
        lines=lines,
        reason="upcoming",
        subscription=subscription,
        period=(start, end),
    )
    return invoice | {"id": f"upcoming_{invoice['id']}", "next_payment_attempt": None if ending else end}
