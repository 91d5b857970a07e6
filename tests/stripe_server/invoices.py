"""Answer for invoices, invoice items and previews."""

from __future__ import annotations

from tests.stripe_server.account import Account
from tests.stripe_server.catalog import price_of
from tests.stripe_server.customers import living_customer
from tests.stripe_server.errors import declined, invalid, required
from tests.stripe_server.forms import Obj, amount, flag, integer, merged_metadata, text
from tests.stripe_server.invoice_lines import new_item, period_lines, pricing, product_name
from tests.stripe_server.invoicing import build_invoice, collect, finalize, subscription_of, void
from tests.stripe_server.prorating import plan_change
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import list_object, page
from tests.stripe_server.subscription_change import change_invoice, draft_change, next_invoice
from tests.stripe_server.subscription_start import build_subscription


@route("GET /v1/invoices/{invoice}")
def retrieve_invoice(call: Call, identifier: str) -> Obj:
    return call.account.store.get("invoice", identifier)


@route("GET /v1/invoices", f"{LISTING} customer subscription status")
def list_invoices(call: Call) -> Obj:
    having = {name: call.params[name] for name in ("customer", "status") if name in call.params}
    rows = call.account.store.all("invoice", **having)
    if "subscription" in call.params:
        rows = [row for row in rows if subscription_of(row) == call.params["subscription"]]
    return page(rows, call.params, "/v1/invoices")


@route("GET /v1/invoices/{invoice}/lines", LISTING)
def list_lines(call: Call, identifier: str) -> Obj:
    """Return the lines in their own order: they are not listed newest first."""
    lines = call.account.store.get("invoice", identifier)["lines"]["data"]
    return page(lines[::-1], call.params, call.path)


@route("POST /v1/invoices/{invoice}/pay", "payment_method off_session")
def pay_invoice(call: Call, identifier: str) -> Obj:
    account = call.account
    invoice = account.store.get("invoice", identifier)
    pay(account, invoice, call.params.get("payment_method"))
    return invoice


def pay(account: Account, invoice: Obj, method: str | None = None) -> None:
    """Pay an invoice by hand; 402 when the card is declined, 400 when there is nothing to pay."""
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] == "draft":
        finalize(account, invoice)
    if invoice["status"] != "open":
        raise invalid(f"You cannot pay an invoice that is {invoice['status']}.", code="invoice_not_editable")
    card = account.store.get("payment_method", method, "payment_method") if method else None
    if not collect(account, invoice, card, automatic=False):
        payment = account.store.all("invoice_payment", invoice=invoice["id"])[0]
        raise declined(payment["payment"]["payment_intent"])


@route("POST /v1/invoices/{invoice}/void")
def void_invoice(call: Call, identifier: str) -> Obj:
    """Take back an open invoice; others cannot be voided."""
    invoice = call.account.store.get("invoice", identifier)
    if invoice["status"] != "open":
        raise invalid(f"You can only void an open invoice, this one is {invoice['status']}.")
    void(call.account, invoice)
    return invoice


@route("GET /v1/invoice_payments", f"{LISTING} invoice status")
def list_invoice_payments(call: Call) -> Obj:
    having = {name: call.params[name] for name in ("invoice", "status") if name in call.params}
    rows = call.account.store.all("invoice_payment", **having)
    return page(rows, call.params, "/v1/invoice_payments")


@route("GET /v1/invoice_payments/{payment}")
def retrieve_invoice_payment(call: Call, identifier: str) -> Obj:
    return call.account.store.get("invoice_payment", identifier)


@route(
    "POST /v1/invoiceitems",
    "customer amount currency description metadata subscription pricing quantity period",
)
def create_item(call: Call) -> Obj:
    """Let something wait for the customer's next invoice: an amount, or a quantity of a one-time price."""
    account, params = call.account, call.params
    customer = living_customer(account, text(params, "customer"))
    subscription = params.get("subscription")
    if subscription:
        account.store.get("subscription", subscription, "subscription")
    quantity = integer(params, "quantity", 1) or 1
    if named := params.get("pricing", {}).get("price"):
        price = account.store.get("price", named, "pricing[price]")
        cost, currency = price_of(account, price, quantity), price["currency"]
        shown = pricing(price, price["unit_amount_decimal"])
        description = params.get("description") or product_name(account, price)
    else:
        cost, currency = amount(params, "amount"), params.get("currency", "usd")
        shown, description = pricing(None, params["amount"]), params.get("description")
    parent = {"type": "subscription_details", "subscription_details": {"subscription": subscription}}
    item = new_item(
        account,
        customer["id"],
        cost,
        currency,
        description=description,
        metadata=merged_metadata({}, params.get("metadata")),
        parent=parent if subscription else None,
        pricing=shown,
        quantity=quantity,
    )
    return account.store.add(item)


@route("GET /v1/invoiceitems/{item}")
def retrieve_item(call: Call, identifier: str) -> Obj:
    return call.account.store.get("invoiceitem", identifier)


@route("GET /v1/invoiceitems", f"{LISTING} customer invoice pending")
def list_items(call: Call) -> Obj:
    having = {name: call.params[name] for name in ("customer", "invoice") if name in call.params}
    rows = call.account.store.all("invoiceitem", **having)
    if "pending" in call.params:
        rows = [row for row in rows if (row["invoice"] is None) == flag(call.params, "pending")]
    return page(rows, call.params, "/v1/invoiceitems")


@route("POST /v1/invoices/create_preview", "customer subscription subscription_details automatic_tax")
def preview_invoice(call: Call) -> Obj:
    """Show what a change, a new subscription or the coming renewal would bill; nothing is kept."""
    account, params = call.account, call.params
    details: Obj = params.get("subscription_details", {})
    if "subscription" not in params and not details.get("items"):
        raise required("subscription")
    if "subscription" not in params:
        return _preview_of_new(account, living_customer(account, text(params, "customer")), details)
    subscription = account.store.get("subscription", params["subscription"], "subscription")
    ending = flag(details, "cancel_at_period_end", default=bool(subscription["cancel_at"]))
    behavior = details.get("proration_behavior", "create_prorations")
    when = integer(details, "proration_date", account.now) or 0
    change = plan_change(account, subscription, details.get("items", []))
    reset = details.get("billing_cycle_anchor", {}).get("type") == "now"
    draft = draft_change(account, subscription, change, behavior, when, reset=reset)
    if (change.gone or change.fresh or reset) and draft.bills_now:
        invoice = change_invoice(account, draft)
    else:
        invoice = next_invoice(account, draft.after, draft.added, ending=ending)
    invoice["parent"]["subscription_details"]["subscription_proration_date"] = when
    return _as_preview(invoice)


def _preview_of_new(account: Account, customer: Obj, details: Obj) -> Obj:
    subscription = build_subscription(account, customer["id"], details["items"])
    item = subscription["items"]["data"][0]
    period = (item["current_period_start"], item["current_period_end"])
    invoice = build_invoice(
        account,
        customer=customer["id"],
        lines=period_lines(account, subscription, period),
        reason="upcoming",
        subscription=subscription,
    )
    invoice["parent"]["subscription_details"]["subscription"] = None
    return _as_preview(invoice)


def _as_preview(invoice: Obj) -> Obj:
    lines = list_object(invoice["lines"]["data"], invoice["lines"]["url"])
    identifier = invoice["id"].removeprefix("upcoming_")
    return invoice | {"id": f"upcoming_{identifier}", "lines": lines}
