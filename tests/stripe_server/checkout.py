"""Answer for checkout sessions, and complete them when somebody pays."""

from __future__ import annotations

from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.cards import new_card
from tests.stripe_server.catalog import is_metered, make_price, price_of
from tests.stripe_server.clock import DAY
from tests.stripe_server.customers import living_customer, make_customer, make_tax_id
from tests.stripe_server.cycles import expire_session
from tests.stripe_server.errors import invalid, required
from tests.stripe_server.forms import Obj, flag, integer, merged_metadata, text
from tests.stripe_server.invoice_lines import product_name, single_line
from tests.stripe_server.invoicing import build_invoice, issue, keep_invoice
from tests.stripe_server.payments import attempt, new_intent
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import list_object, new_id, page
from tests.stripe_server.subscription_start import build_subscription, start_subscription
from tests.stripe_server.subscriptions import automatic_tax, trial_end_of


@route(
    "POST /v1/checkout/sessions",
    "mode line_items customer customer_email customer_creation customer_update client_reference_id metadata "
    "subscription_data payment_intent_data invoice_creation success_url cancel_url allow_promotion_codes "
    "tax_id_collection automatic_tax locale expires_at payment_method_types payment_method_collection ui_mode "
    "billing_address_collection submit_type",
)
def create_session(call: Call) -> Obj:
    account, params = call.account, call.params
    mode = text(params, "mode")
    if mode not in ("payment", "subscription"):
        raise invalid("This server knows the modes payment and subscription.", "mode")
    if "customer" in params and "customer_email" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_email.", "customer")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise invalid("This server knows only ui_mode hosted_page.", "ui_mode")
    if customer := params.get("customer"):
        _check_customer(living_customer(account, customer), params)
    success_url = text(params, "success_url")
    lines = _lines(account, params, mode)
    total = sum(line["amount_total"] for line in lines)
    trial = trial_end_of(account, params.get("subscription_data", {})) if mode == "subscription" else None
    session = account.make(
        "cs_test",
        "checkout.session",
        allow_promotion_codes=flag(params, "allow_promotion_codes") or None,
        amount_subtotal=total,
        amount_total=0 if trial else total,
        automatic_tax=automatic_tax(params) | {"status": None},
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        client_secret=None,
        currency=lines[0]["currency"],
        custom_fields=[],
        customer=customer,
        customer_creation=params.get("customer_creation") if mode == "payment" else None,
        customer_details=None,
        customer_email=params.get("customer_email"),
        expires_at=integer(params, "expires_at", account.now + DAY),
        invoice=None,
        locale=params.get("locale"),
        metadata=merged_metadata({}, params.get("metadata")),
        mode=mode,
        payment_intent=None,
        payment_link=None,
        payment_method_types=["card"],
        payment_status="unpaid",
        setup_intent=None,
        shipping_options=[],
        status="open",
        submit_type=None,
        subscription=None,
        success_url=success_url,
        tax_id_collection={
            "enabled": flag(params.get("tax_id_collection", {}), "enabled"),
            "required": "never",
        },
        total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        ui_mode="hosted_page",
    )
    session["url"] = f"{account.url}/pay/{session['id']}"
    account.checkout[session["id"]] = {"lines": lines, "params": params}
    return session


def _check_customer(customer: Obj, params: Obj) -> None:
    """Refuse to collect what Stripe may not write to a customer that exists already."""
    update: Obj = params.get("customer_update", {})
    if flag(params.get("tax_id_collection", {}), "enabled") and update.get("name") != "auto":
        message = (
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection "
        )
        raise invalid(f"{message}for an existing customer, please set `customer_update[name]` to `auto`.")
    asks_tax = flag(params.get("automatic_tax", {}), "enabled")
    if asks_tax and not customer["address"] and update.get("address") != "auto":
        message = "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address "
        message += (
            "to the Customer or set either `customer_update[address]` to `auto` to save the address entered."
        )
        raise invalid(message, "automatic_tax", "customer_tax_location_invalid")


def _lines(account: Account, params: Obj, mode: str) -> list[Obj]:
    if not params.get("line_items"):
        raise required("line_items")
    lines = [_line(account, entry, f"line_items[{n}]") for n, entry in enumerate(params["line_items"])]
    recurring = [line for line in lines if line["price"]["type"] == "recurring"]
    if mode == "payment" and recurring:
        message = (
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode "
        )
        raise invalid(message + "or use only one-time prices.", "line_items")
    if mode == "subscription" and not recurring:
        message = "You must provide at least one recurring price in `subscription` mode when using prices."
        raise invalid(message, "line_items")
    return lines


def _line(account: Account, entry: Obj, param: str) -> Obj:
    if "price_data" in entry:
        price = make_price(account, entry["price_data"])
    else:
        price = account.store.get("price", text(entry, "price"), f"{param}[price]")
    if not price["active"]:
        raise invalid(
            "The price specified is inactive. This field only accepts active prices.", f"{param}[price]"
        )
    metered = is_metered(price)
    if metered and "quantity" in entry:
        message = "Quantity should not be specified where usage_type is `metered`."
        raise invalid(message, f"{param}[quantity]")
    if not metered and "quantity" not in entry:
        raise invalid(f"Quantity is required. Add `quantity` to `{param}`", f"{param}[quantity]")
    quantity = None if metered else integer(entry, "quantity", 1)
    cost = 0 if metered else price_of(account, price, quantity or 0)
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": cost,
        "amount_tax": 0,
        "amount_total": cost,
        "currency": price["currency"],
        "description": product_name(account, price),
        "price": price,
        "quantity": quantity,
    }


@route("GET /v1/checkout/sessions/{session}")
def retrieve_session(call: Call, identifier: str) -> Obj:
    return call.account.store.get("checkout.session", identifier)


@route("GET /v1/checkout/sessions", f"{LISTING} customer payment_intent subscription status")
def list_sessions(call: Call) -> Obj:
    names = ("customer", "payment_intent", "subscription", "status")
    having = {name: call.params[name] for name in names if name in call.params}
    return page(call.account.store.all("checkout.session", **having), call.params, "/v1/checkout/sessions")


@route("GET /v1/checkout/sessions/{session}/line_items", LISTING)
def list_session_lines(call: Call, identifier: str) -> Obj:
    session = call.account.store.get("checkout.session", identifier)
    return list_object(call.account.checkout[session["id"]]["lines"], call.path)


@route("POST /v1/checkout/sessions/{session}/expire")
def expire(call: Call, identifier: str) -> Obj:
    session = call.account.store.get("checkout.session", identifier)
    if session["status"] != "open":
        message = 'Only Checkout Sessions with a status in ["open"] can be expired. '
        raise invalid(f"{message}This Checkout Session has a status of {session['status']}.", "session")
    expire_session(call.account, session)
    return session


def complete(account: Account, session: Obj, *, works: bool, email: str = "", tax_id: str = "") -> bool:
    """Pay an open session; return False where the card is declined, and the session stays open."""
    params, lines = account.checkout[session["id"]]["params"], account.checkout[session["id"]]["lines"]
    if not works and session["amount_total"]:
        _decline(account, session)
        return False
    customer = _customer(account, session, params, email)
    if customer and tax_id:
        make_tax_id(account, customer["id"], "eu_vat", tax_id)
    card = new_card(account, customer["id"] if customer else None, works=works)
    if session["mode"] == "subscription":
        _subscribe(account, session, params, lines, card)
    else:
        _take_payment(account, session, params, lines, card)
    session["customer_details"] = {
        "address": None,
        "email": email or (customer or {}).get("email"),
        "name": (customer or {}).get("name"),
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [{"type": "eu_vat", "value": tax_id}] if tax_id else [],
    }
    session.update(
        payment_status="paid" if session["amount_total"] else "no_payment_required",
        status="complete",
        url=None,
    )
    if session["automatic_tax"]["enabled"]:
        session["automatic_tax"] = session["automatic_tax"] | {"status": "complete"}
    account.emit("checkout.session.completed", session)
    return True


def _decline(account: Account, session: Obj) -> None:
    card = new_card(account, None, works=False)
    attempt(
        account, new_intent(account, session["amount_total"], session["currency"], session["customer"]), card
    )


def _customer(account: Account, session: Obj, params: Obj, email: str) -> Obj | None:
    """Return the session's customer; a payment alone makes none unless asked to, and Stripe leaves it null."""
    if session["customer"]:
        return account.store.get("customer", session["customer"])
    if session["mode"] == "payment" and params.get("customer_creation") != "always":
        return None
    customer = make_customer(account, email=session["customer_email"] or email or "customer@example.com")
    session["customer"] = customer["id"]
    return customer


def _subscribe(account: Account, session: Obj, params: Obj, lines: list[Obj], card: Obj) -> None:
    data: Obj = params.get("subscription_data", {})
    recurring = [line for line in lines if line["price"]["type"] == "recurring"]
    asked = [
        {"price": line["price"]["id"]} | ({} if line["quantity"] is None else {"quantity": line["quantity"]})
        for line in recurring
    ]
    subscription = build_subscription(
        account,
        session["customer"],
        asked,
        default_payment_method=card["id"],  # and not the customer's default: so does Stripe
        description=data.get("description"),
        metadata=merged_metadata({}, data.get("metadata")),
        trial_end=trial_end_of(account, data),
        automatic_tax=automatic_tax(params),
    )
    extra = [single_line(account, line["price"], line["quantity"]) for line in lines if line not in recurring]
    start_subscription(account, subscription, extra)
    session.update(subscription=subscription["id"], invoice=subscription["latest_invoice"])


def _take_payment(account: Account, session: Obj, params: Obj, lines: list[Obj], card: Obj) -> None:
    data: Obj = params.get("payment_intent_data", {})
    if session["customer"] and flag(params.get("invoice_creation", {}), "enabled"):
        _invoice_payment(account, session, params, lines, card)
        return
    intent = new_intent(
        account,
        session["amount_total"],
        session["currency"],
        session["customer"],
        metadata=merged_metadata({}, data.get("metadata")),
        description=data.get("description"),
    )
    attempt(account, intent, card)
    session["payment_intent"] = intent["id"]


def _invoice_payment(account: Account, session: Obj, params: Obj, lines: list[Obj], card: Obj) -> None:
    data: Any = params["invoice_creation"].get("invoice_data", {})
    invoice = build_invoice(
        account,
        customer=session["customer"],
        lines=[single_line(account, line["price"], line["quantity"]) for line in lines],
        reason="manual",
    )
    invoice["metadata"] = merged_metadata({}, data.get("metadata"))
    issue(account, keep_invoice(account, invoice), card)
    session["invoice"] = invoice["id"]
    for payment in account.store.all("invoice_payment", invoice=invoice["id"]):
        session["payment_intent"] = payment["payment"]["payment_intent"]
