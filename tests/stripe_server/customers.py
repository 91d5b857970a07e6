"""Answer for customers, their tax ids and their cards."""

from __future__ import annotations

import re

from tests.stripe_server.account import Account
from tests.stripe_server.cards import new_card
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj, merged_metadata, text
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import new_id, page
from tests.stripe_server.subscription_end import end_subscription

PLAIN = ("email", "name", "description", "phone", "address", "shipping", "tax_exempt", "preferred_locales")
FIELDS = " ".join((*PLAIN, "metadata", "invoice_settings"))


def make_customer(account: Account, **fields: object) -> Obj:
    customer = account.make(
        "cus",
        "customer",
        address=None,
        balance=0,  # cents; below zero the customer has credit
        currency=None,
        default_source=None,
        delinquent=False,
        description=None,
        discount=None,
        email=None,
        invoice_prefix=new_id("x")[2:10].upper(),
        invoice_settings={"custom_fields": None, "default_payment_method": None, "footer": None},
        metadata={},
        name=None,
        next_invoice_sequence=1,
        phone=None,
        preferred_locales=[],
        shipping=None,
        tax_exempt="none",
        test_clock=None,
    )
    customer.update(fields)
    account.emit("customer.created", customer)
    return customer


def _changes(call: Call, customer: Obj) -> Obj:
    params = call.params
    changed = {name: params[name] or None for name in PLAIN if name in params}
    changed["metadata"] = merged_metadata(customer.get("metadata", {}), params.get("metadata"))
    if method := params.get("invoice_settings", {}).get("default_payment_method"):
        call.account.store.get("payment_method", method, "invoice_settings[default_payment_method]")
        settings: Obj = customer.get("invoice_settings", {})
        changed["invoice_settings"] = settings | {"default_payment_method": method}
    return changed


@route("POST /v1/customers", f"{FIELDS} test_clock")
def create_customer(call: Call) -> Obj:
    if clock := call.params.get("test_clock"):
        call.account.store.get("test_helpers.test_clock", clock, "test_clock")
    return make_customer(call.account, **_changes(call, {}), test_clock=clock)


@route("GET /v1/customers", f"{LISTING} email")
def list_customers(call: Call) -> Obj:
    rows = call.account.store.all("customer", **{k: v for k, v in call.params.items() if k == "email"})
    return page([row for row in rows if not row.get("deleted")], call.params, "/v1/customers")


_CLAUSE = re.compile(
    r"""(?:metadata\[['"](?P<key>[^'"]+)['"]\]|(?P<name>email|name)):\s*['"](?P<value>[^'"]*)['"]"""
)


@route("GET /v1/customers/search", "query limit")
def search_customers(call: Call) -> Obj:
    """Understand `email:'…'`, `name:'…'` and `metadata['…']:'…'`, joined by AND."""
    clauses = [_CLAUSE.fullmatch(part.strip()) for part in text(call.params, "query").split(" AND ")]
    if not all(clauses):
        raise invalid("We were unable to parse your search query.", "query")
    rows = [row for row in call.account.store.all("customer") if not row.get("deleted")]
    for clause in filter(None, clauses):
        where = clause.groupdict()
        rows = [r for r in rows if _field(r, where["key"], where["name"]) == where["value"]]
    found = page(rows, {k: v for k, v in call.params.items() if k == "limit"}, "/v1/customers/search")
    return found | {"object": "search_result", "next_page": None}


def _field(customer: Obj, key: str | None, name: str) -> object:
    return customer["metadata"].get(key) if key else customer[name]


@route("GET /v1/customers/{customer}")
def retrieve_customer(call: Call, identifier: str) -> Obj:
    return call.account.store.get("customer", identifier)


@route("POST /v1/customers/{customer}", FIELDS)
def update_customer(call: Call, identifier: str) -> Obj:
    customer = living_customer(call.account, identifier, "id")
    with call.account.changing(customer, "customer.updated"):
        customer.update(_changes(call, customer))
    return customer


@route("DELETE /v1/customers/{customer}")
def delete_customer(call: Call, identifier: str) -> Obj:
    """Cancel what the customer subscribes to, and leave a stone in its place, as Stripe does."""
    account = call.account
    customer = living_customer(account, identifier, "id")
    for subscription in account.store.all("subscription", customer=identifier):
        end_subscription(account, subscription, reason="cancellation_requested")
    account.emit("customer.deleted", customer)
    stone = {"id": identifier, "object": "customer", "deleted": True}
    return account.store.add(stone)


def living_customer(account: Account, identifier: str, param: str = "customer") -> Obj:
    customer = account.store.get("customer", identifier, param)
    if customer.get("deleted"):
        raise invalid(f"No such customer: '{identifier}'", param, "resource_missing")
    return customer


@route("POST /v1/customers/{customer}/tax_ids", "type value")
def create_tax_id(call: Call, identifier: str) -> Obj:
    living_customer(call.account, identifier)
    return make_tax_id(call.account, identifier, text(call.params, "type"), text(call.params, "value"))


def make_tax_id(account: Account, customer: str, kind: str, value: str) -> Obj:
    return account.make(
        "txi",
        "tax_id",
        country=value[:2] if kind == "eu_vat" else None,
        customer=customer,
        owner={"customer": customer, "type": "customer"},
        type=kind,
        value=value,
        verification={"status": "pending", "verified_address": None, "verified_name": None},
    )


@route("GET /v1/customers/{customer}/tax_ids", LISTING)
def list_tax_ids(call: Call, identifier: str) -> Obj:
    rows = call.account.store.all("tax_id", customer=identifier)
    return page(rows, call.params, f"/v1/customers/{identifier}/tax_ids")


@route("DELETE /v1/customers/{customer}/tax_ids/{tax_id}")
def delete_tax_id(call: Call, _customer: str, identifier: str) -> Obj:
    call.account.store.remove(call.account.store.get("tax_id", identifier))
    return {"id": identifier, "object": "tax_id", "deleted": True}


@route("GET /v1/customers/{customer}/payment_methods", f"{LISTING} type")
def list_customer_cards(call: Call, identifier: str) -> Obj:
    rows = call.account.store.all("payment_method", customer=identifier)
    return page(rows, call.params, f"/v1/customers/{identifier}/payment_methods")


@route("GET /v1/payment_methods/{method}")
def retrieve_card(call: Call, identifier: str) -> Obj:
    return call.account.store.get("payment_method", identifier)


@route("POST /v1/payment_methods/{method}/attach", "customer")
def attach_card(call: Call, method: str) -> Obj:
    return attach(call, method, living_customer(call.account, text(call.params, "customer")))


def attach(call: Call, method: str, customer: Obj) -> Obj:
    """Know Stripe's test cards `pm_card_visa` and `pm_card_chargeCustomerFail`, which declines later."""
    if method in ("pm_card_visa", "pm_card_chargeCustomerFail"):
        return new_card(call.account, customer["id"], works=method == "pm_card_visa")
    card = call.account.store.get("payment_method", method)
    card["customer"] = customer["id"]
    return card
