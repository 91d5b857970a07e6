"""Make invoices, finalize them and collect what is due."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from tests.stripe_server.account import Account
from tests.stripe_server.cards import card_of
from tests.stripe_server.clock import DAY
from tests.stripe_server.forms import Obj
from tests.stripe_server.invoice_lines import line_of_item, pending_items
from tests.stripe_server.payments import attempt, new_intent
from tests.stripe_server.store import list_object, new_id


def build_invoice(
    account: Account,
    *,
    customer: str,
    lines: list[Obj],
    reason: str,
    subscription: Obj | None = None,
    period: tuple[int, int] | None = None,
) -> Obj:
    """Return a draft with these lines, not kept yet; amounts in cents, the customer's credit taken off.

    `period` is the one that is over: an invoice's `period_end` is when it was made, and not until when it pays.
    That is in its lines.
    """
    owner, total = account.store.get("customer", customer), sum(line["amount"] for line in lines)
    balance = owner["balance"]
    due = max(0, total + balance)
    identifier = new_id("in")
    start, end = period or (account.now, account.now)
    return {
        "id": identifier,
        "object": "invoice",
        "amount_due": due,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": due,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": (subscription or {}).get("automatic_tax") or {"enabled": False, "status": None},
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": account.now,
        "currency": lines[0]["currency"] if lines else (subscription or {}).get("currency", "usd"),
        "customer": customer,
        "customer_address": owner["address"],
        "customer_email": owner["email"],
        "customer_name": owner["name"],
        "default_payment_method": None,
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "lines": list_object(
            [line | {"invoice": identifier} for line in lines], f"/v1/invoices/{identifier}/lines"
        ),
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "parent": _parent(subscription),
        "period_end": end,
        "period_start": start,
        "starting_balance": balance,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_taxes": [],
    }


def _parent(subscription: Obj | None) -> Obj | None:
    if subscription is None:
        return None
    details = {"subscription": subscription["id"], "metadata": copy.deepcopy(subscription["metadata"])}
    return {"type": "subscription_details", "quote_details": None, "subscription_details": details}


def subscription_of(invoice: Obj) -> str | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    subscription: str | None = details.get("subscription")
    return subscription


def take_pending(account: Account, customer: str, subscription: str | None) -> tuple[list[Obj], list[Obj]]:
    """Return the items that wait and the lines they become."""
    items = pending_items(account, customer, subscription)
    return items, [line_of_item(item) for item in items]


def keep_invoice(account: Account, invoice: Obj, items: Sequence[Obj] = ()) -> Obj:
    """Keep a draft; the invoice items it bills wait no longer, and the subscription knows it as its latest."""
    account.store.add(invoice)
    for item in items:
        item["invoice"] = invoice["id"]
    if subscription := subscription_of(invoice):
        account.store.get("subscription", subscription)["latest_invoice"] = invoice["id"]
    return invoice


def finalize(account: Account, invoice: Obj) -> None:
    """Number a draft and use the customer's credit; what is below zero becomes credit."""
    customer = account.store.get("customer", invoice["customer"])
    number = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] += 1
    after = min(0, customer["balance"] + invoice["total"])
    if after != customer["balance"]:
        with account.changing(customer, "customer.updated"):
            customer["balance"] = after
    invoice.update(
        effective_at=account.now,
        ending_balance=after,
        hosted_invoice_url=f"{account.url}/invoice/{invoice['id']}",
        invoice_pdf=f"{account.url}/invoice/{invoice['id']}/pdf",
        number=f"{customer['invoice_prefix']}-{number:04}",
        status="open",
    )
    invoice["status_transitions"]["finalized_at"] = account.now
    account.emit("invoice.finalized", invoice)


def collect(account: Account, invoice: Obj, card: Obj | None = None, *, automatic: bool = True) -> bool:
    """Charge what is due to `card`, or to the one Stripe would take; return whether the invoice is paid.

    Only automatic attempts are counted: paying by hand does not move the schedule of retries.
    """
    if invoice["amount_remaining"] == 0:
        _mark_paid(account, invoice)
        return True
    subscription = subscription_of(invoice)
    owner = account.store.get("subscription", subscription) if subscription else None
    card = card or card_of(account, invoice["customer"], owner)
    intent = account.store.get("payment_intent", _payment(account, invoice)["payment"]["payment_intent"])
    invoice["attempted"] = True
    invoice["attempt_count"] += automatic
    if attempt(account, intent, card):
        _mark_paid(account, invoice)
        return True
    if automatic and invoice["billing_reason"] != "subscription_create":
        days = account.settings.retry_days[invoice["attempt_count"] - 1 : invoice["attempt_count"]]
        invoice["next_payment_attempt"] = account.now + days[0] * DAY if days else None
    account.emit("invoice.payment_failed", invoice)
    return False


def _payment(account: Account, invoice: Obj) -> Obj:
    """Return the invoice's payment, whose intent is made with it and tried again at each attempt."""
    if known := account.store.all("invoice_payment", invoice=invoice["id"]):
        return known[0]
    intent = new_intent(
        account,
        invoice["amount_due"],
        invoice["currency"],
        invoice["customer"],
        description="Subscription update" if subscription_of(invoice) else "Payment for Invoice",
    )
    return account.make(
        "inpay",
        "invoice_payment",
        amount_paid=None,
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": intent["id"]},
        status="open",
        status_transitions={"canceled_at": None, "paid_at": None},
    )


def _mark_paid(account: Account, invoice: Obj) -> None:
    paid = invoice["amount_remaining"]
    invoice.update(
        amount_paid=paid, amount_remaining=0, attempted=True, next_payment_attempt=None, status="paid"
    )
    invoice["status_transitions"]["paid_at"] = account.now
    for payment in account.store.all("invoice_payment", invoice=invoice["id"]):
        payment.update(amount_paid=paid, status="paid")
        payment["status_transitions"]["paid_at"] = account.now
    account.emit("invoice.paid", invoice)
    account.emit("invoice.payment_succeeded", invoice)
    _wake_subscription(account, invoice)


def _wake_subscription(account: Account, invoice: Obj) -> None:
    """Make a subscription active again when its latest invoice is paid; older debts do not matter to Stripe."""
    if not (identifier := subscription_of(invoice)):
        return
    subscription = account.store.get("subscription", identifier)
    behind = subscription["status"] in ("incomplete", "past_due", "unpaid")
    if behind and subscription["latest_invoice"] == invoice["id"]:
        with account.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"


def issue(account: Account, invoice: Obj, card: Obj | None = None) -> bool:
    """Tell of a kept draft, finalize it and collect it; a failure leaves its subscription past due."""
    account.emit("invoice.created", invoice)
    finalize(account, invoice)
    if collect(account, invoice, card):
        return True
    if identifier := subscription_of(invoice):
        subscription = account.store.get("subscription", identifier)
        if subscription["status"] in ("active", "trialing"):
            with account.changing(subscription, "customer.subscription.updated"):
                subscription["status"] = "past_due"
    return False


def stop_collecting(account: Account, subscription: str) -> None:
    for invoice in account.store.all("invoice", status="open"):
        if subscription_of(invoice) == subscription:
            invoice.update(auto_advance=False, next_payment_attempt=None)


def void(account: Account, invoice: Obj) -> None:
    invoice.update(status="void", amount_remaining=0, next_payment_attempt=None)
    invoice["status_transitions"]["voided_at"] = account.now
    account.emit("invoice.voided", invoice)
