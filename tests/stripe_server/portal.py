"""Answer for the customer portal, and serve its page: cancel, renew, another card."""

from __future__ import annotations

from tests.stripe_server.account import Account
from tests.stripe_server.cards import new_card, use_card
from tests.stripe_server.customers import living_customer
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj, flag, merged_metadata, text
from tests.stripe_server.html import alert, button, frame, link, money
from tests.stripe_server.routing import LISTING, Answer, Call, Redirect, route
from tests.stripe_server.store import page
from tests.stripe_server.subscription_end import ENDED, end_subscription
from tests.stripe_server.subscriptions import ending

CONFIGURATION = "features business_profile default_return_url metadata active name"


@route("POST /v1/billing_portal/configurations", CONFIGURATION)
def create_configuration(call: Call) -> Obj:
    return _make_configuration(call.account, call.params)


def _make_configuration(account: Account, params: Obj, *, default: bool = False) -> Obj:
    features: Obj = params.get("features", {})
    cancel: Obj = features.get("subscription_cancel", {})
    return account.make(
        "bpc",
        "billing_portal.configuration",
        active=flag(params, "active", default=True),
        business_profile=params.get("business_profile", {}),
        default_return_url=params.get("default_return_url"),
        features={
            "customer_update": {
                "allowed_updates": [],
                "enabled": _enabled(features, "customer_update", default),
            },
            "invoice_history": {"enabled": _enabled(features, "invoice_history", default)},
            "payment_method_update": {"enabled": _enabled(features, "payment_method_update", default)},
            "subscription_cancel": {
                "enabled": _enabled(features, "subscription_cancel", default),
                "mode": cancel.get("mode", "at_period_end"),
                "proration_behavior": "none",
            },
            "subscription_update": {
                "enabled": False,
                "default_allowed_updates": [],
                "proration_behavior": "none",
            },
        },
        is_default=default,
        metadata=merged_metadata({}, params.get("metadata")),
        name=params.get("name"),
        updated=account.now,
    )


def _enabled(features: Obj, name: str, default: bool) -> bool:
    return flag(features.get(name, {}), "enabled", default=default)


@route("GET /v1/billing_portal/configurations/{configuration}")
def retrieve_configuration(call: Call, identifier: str) -> Obj:
    return call.account.store.get("billing_portal.configuration", identifier)


@route("GET /v1/billing_portal/configurations", f"{LISTING} active is_default")
def list_configurations(call: Call) -> Obj:
    rows = call.account.store.all("billing_portal.configuration")
    for name in ("active", "is_default"):
        if name in call.params:
            rows = [row for row in rows if row[name] == flag(call.params, name)]
    return page(rows, call.params, "/v1/billing_portal/configurations")


@route("POST /v1/billing_portal/sessions", "customer return_url configuration locale")
def create_portal_session(call: Call) -> Obj:
    """Make a session; without a configuration named, with one that allows everything."""
    account, params = call.account, call.params
    customer = living_customer(account, text(params, "customer"))
    if named := params.get("configuration"):
        configuration = account.store.get("billing_portal.configuration", named, "configuration")
    else:
        known = account.store.all("billing_portal.configuration", is_default=True)
        configuration = known[0] if known else _make_configuration(account, {}, default=True)
    session = account.make(
        "bps",
        "billing_portal.session",
        configuration=configuration["id"],
        customer=customer["id"],
        flow=None,
        locale=params.get("locale"),
        on_behalf_of=None,
        return_url=params.get("return_url") or configuration["default_return_url"],
    )
    session["url"] = f"{account.url}/portal/{session['id']}"
    return session


@route("GET /portal/{session}", None)
def show_portal(call: Call, identifier: str, message: str = "") -> Answer:
    account = call.account
    session = account.store.get("billing_portal.session", identifier)
    features = account.store.get("billing_portal.configuration", session["configuration"])["features"]
    body = alert(message)
    for subscription in account.store.all("subscription", customer=session["customer"]):
        body += _subscription(account, subscription, features)
    if features["payment_method_update"]["enabled"]:
        body += "<h2>Card</h2>" + button("Use card 4242…, which works", action="card", card="ok")
        body += button("Use card 0341…, which will be declined", action="card", card="declined")
    if features["invoice_history"]["enabled"]:
        body += "<h2>Invoices</h2>"
        for invoice in account.store.all("invoice", customer=session["customer"]):
            label = (
                f"{invoice['number']}: {money(invoice['total'], invoice['currency'])}, {invoice['status']}"
            )
            body += link(invoice["hosted_invoice_url"], label)
    return frame("Your subscription", body + link(session["return_url"], "Return"))


def _subscription(account: Account, subscription: Obj, features: Obj) -> str:
    names = [
        account.store.get("product", item["price"]["product"])["name"]
        for item in subscription["items"]["data"]
    ]
    html = f"<h2>{' + '.join(names)}</h2><p>Status: {subscription['status']}</p>"
    if subscription["status"] in ENDED or not features["subscription_cancel"]["enabled"]:
        return html
    if subscription["cancel_at"]:
        return html + button("Renew", action="renew", subscription=subscription["id"])
    return html + button("Cancel subscription", action="cancel", subscription=subscription["id"])


@route("POST /portal/{session}", None)
def submit_portal(call: Call, identifier: str) -> Answer:
    """Do what a button says and go back to where the customer came from."""
    account, form = call.account, call.params
    session = account.store.get("billing_portal.session", identifier)
    customer = account.store.get("customer", session["customer"])
    if form.get("action") == "card":
        use_card(account, customer, new_card(account, customer["id"], works=form.get("card") == "ok"))
    elif form.get("action") in ("cancel", "renew"):
        _set_ending(account, session, text(form, "subscription"), cancels=form["action"] == "cancel")
    else:
        raise invalid("Unknown action: one of card, cancel and renew.", "action")
    return (
        Redirect(session["return_url"]) if session["return_url"] else show_portal(call, identifier, "Done.")
    )


def _set_ending(account: Account, session: Obj, identifier: str, *, cancels: bool) -> None:
    subscription = account.store.get("subscription", identifier)
    if subscription["customer"] != session["customer"]:
        raise invalid(f"No such subscription: '{identifier}'", "subscription", "resource_missing")
    features = account.store.get("billing_portal.configuration", session["configuration"])["features"]
    if cancels and features["subscription_cancel"]["mode"] == "immediately":
        end_subscription(account, subscription, reason="cancellation_requested")
        return
    with account.changing(subscription, "customer.subscription.updated"):
        # The portal writes a date, not the flag that the API's callers set.
        subscription.update(ending(account, subscription, cancels) | {"cancel_at_period_end": False})
