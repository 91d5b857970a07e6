"""Serve the pages of checkout and invoices, and do what their buttons say."""

from __future__ import annotations

from tests.stripe_server.cards import new_card
from tests.stripe_server.checkout import complete
from tests.stripe_server.errors import StripeError
from tests.stripe_server.forms import Obj
from tests.stripe_server.html import checkout_page, frame, invoice_page, invoice_pdf
from tests.stripe_server.invoices import pay
from tests.stripe_server.routing import Answer, Call, Page, Redirect, route

DECLINED = "Your card was declined."


@route("GET /pay/{session}", None)
def show_checkout(call: Call, identifier: str) -> Answer:
    session = call.account.store.get("checkout.session", identifier)
    if session["status"] == "complete":
        return Redirect(_success_url(session))
    if session["status"] == "expired":
        return frame("This checkout has expired", "<p>Go back and begin again.</p>", 410)
    return checkout_page(session, call.account.checkout[identifier]["lines"])


@route("POST /pay/{session}", None)
def submit_checkout(call: Call, identifier: str) -> Answer:
    """Pay once: a second click on Pay only goes on to the success page."""
    session = call.account.store.get("checkout.session", identifier)
    if session["status"] != "open":
        return show_checkout(call, identifier)
    form = call.params
    works = form.get("card", "ok") == "ok"
    email, tax_id = form.get("email", ""), form.get("tax_id", "")
    if not complete(call.account, session, works=works, email=email, tax_id=tax_id):
        return checkout_page(session, call.account.checkout[identifier]["lines"], DECLINED)
    return Redirect(_success_url(session))


def _success_url(session: Obj) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


@route("GET /invoice/{invoice}", None)
def show_invoice(call: Call, identifier: str) -> Answer:
    return invoice_page(call.account.store.get("invoice", identifier))


@route("POST /invoice/{invoice}", None)
def submit_invoice(call: Call, identifier: str) -> Answer:
    account = call.account
    invoice = account.store.get("invoice", identifier)
    if invoice["status"] != "open":
        return invoice_page(invoice)
    card = new_card(account, invoice["customer"], works=call.params.get("card", "ok") == "ok")
    try:
        pay(account, invoice, card["id"])
    except StripeError:
        return invoice_page(invoice, DECLINED)
    return invoice_page(invoice)


@route("GET /invoice/{invoice}/pdf", None)
def show_invoice_pdf(call: Call, identifier: str) -> Page:
    return invoice_pdf(call.account.store.get("invoice", identifier))


@route("GET /receipt/{charge}", None)
def show_receipt(call: Call, identifier: str) -> Answer:
    charge = call.account.store.get("charge", identifier)
    return frame("Receipt", f"<p>{charge['amount'] / 100:.2f} {charge['currency'].upper()}</p>")
