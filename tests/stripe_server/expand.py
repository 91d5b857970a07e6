"""Put objects in place of their ids where `expand[]` asks for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj
from tests.stripe_server.store import list_object

Includable = Callable[[Account, Obj], Any]


def _children(kind: str, field: str, path: str) -> Includable:
    def find(account: Account, obj: Obj) -> Obj:
        rows = account.store.all(kind, **{field: obj["id"]})
        return list_object(copy.deepcopy(rows), path.format(id=obj["id"]))

    return find


def _session_lines(account: Account, session: Obj) -> Obj:
    lines = copy.deepcopy(account.checkout[session["id"]]["lines"])
    return list_object(lines, f"/v1/checkout/sessions/{session['id']}/line_items")


# Fields that Stripe leaves out unless asked: code that forgets to ask must fail here too.
INCLUDABLE: dict[tuple[str, str], Includable] = {
    ("invoice", "payments"): _children("invoice_payment", "invoice", "/v1/invoice_payments?invoice={id}"),
    ("customer", "subscriptions"): _children("subscription", "customer", "/v1/subscriptions?customer={id}"),
    ("customer", "tax_ids"): _children("tax_id", "customer", "/v1/customers/{id}/tax_ids"),
    ("charge", "refunds"): _children("refund", "charge", "/v1/charges/{id}/refunds"),
    ("price", "tiers"): lambda account, price: copy.deepcopy(account.tiers.get(price["id"])),
    ("checkout.session", "line_items"): _session_lines,
}


def expanded(account: Account, obj: Obj, paths: list[str]) -> Obj:
    """Return a copy of the answer with every path expanded; 400 for a path that leads nowhere."""
    result = copy.deepcopy(obj)
    for path in paths:
        _expand(account, result, path.split("."), path)
    return result


def _expand(account: Account, node: Any, steps: list[str], path: str) -> None:
    if node is None or not steps:
        return
    if isinstance(node, list):
        for entry in node:
            _expand(account, entry, steps, path)
        return
    name, rest = steps[0], steps[1:]
    include = INCLUDABLE.get((node.get("object", ""), name))
    if include is not None and name not in node:
        node[name] = include(account, node)
    if name not in node:
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    if isinstance(node[name], str):
        found = account.store.find(node[name])
        if found is None:
            raise invalid(f"This property cannot be expanded ({path}).", "expand")
        node[name] = copy.deepcopy(found)
    _expand(account, node[name], rest, path)
