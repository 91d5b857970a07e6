"""Take money and give it back: payment intents, charges and refunds."""

from __future__ import annotations

from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.cards import works
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj, integer, merged_metadata
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import new_id, page

_DECLINED: Obj = {
    "type": "card_error",
    "code": "card_declined",
    "decline_code": "generic_decline",
    "message": "Your card was declined.",
}


def new_intent(account: Account, amount: int, currency: str, customer: str | None, **fields: Any) -> Obj:
    intent = account.make(
        "pi",
        "payment_intent",
        amount=amount,
        amount_capturable=0,
        amount_received=0,
        canceled_at=None,
        capture_method="automatic",
        currency=currency,
        customer=customer,
        description=None,
        last_payment_error=None,
        latest_charge=None,
        metadata={},
        next_action=None,
        payment_method=None,
        payment_method_types=["card"],
        status="requires_payment_method",
    )
    intent["client_secret"] = f"{intent['id']}_secret_{new_id('x')[2:]}"
    intent.update(fields)
    return intent


def attempt(account: Account, intent: Obj, card: Obj | None) -> bool:
    """Charge a card; return whether it worked. Without a card nothing is charged and the intent waits."""
    ok = works(account, card)
    if card is not None:
        charge = _charge(account, intent, card, ok=ok)
        intent["latest_charge"] = charge["id"]
        account.emit("charge.succeeded" if ok else "charge.failed", charge)
    if ok and card is not None:
        intent.update(status="succeeded", amount_received=intent["amount"], payment_method=card["id"])
        intent["last_payment_error"] = None
    else:
        intent["last_payment_error"] = dict(_DECLINED)
    account.emit("payment_intent.succeeded" if ok else "payment_intent.payment_failed", intent)
    return ok


def _charge(account: Account, intent: Obj, card: Obj, *, ok: bool) -> Obj:
    charge = account.make(
        "ch",
        "charge",
        amount=intent["amount"],
        amount_captured=intent["amount"] if ok else 0,
        amount_refunded=0,
        balance_transaction=new_id("txn") if ok else None,
        billing_details=card["billing_details"],
        captured=ok,
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        disputed=False,
        failure_code=None if ok else _DECLINED["code"],
        failure_message=None if ok else _DECLINED["message"],
        metadata=dict(intent["metadata"]),
        outcome={"type": "authorized" if ok else "issuer_declined"},
        paid=ok,
        payment_intent=intent["id"],
        payment_method=card["id"],
        payment_method_details={"card": card["card"], "type": "card"},
        refunded=False,
        status="succeeded" if ok else "failed",
    )
    charge["receipt_url"] = f"{account.url}/receipt/{charge['id']}" if ok else None
    return charge


@route("GET /v1/payment_intents/{intent}")
def retrieve_intent(call: Call, identifier: str) -> Obj:
    return call.account.store.get("payment_intent", identifier)


@route("GET /v1/payment_intents", f"{LISTING} customer")
def list_intents(call: Call) -> Obj:
    return page(_of(call, "payment_intent", "customer"), call.params, "/v1/payment_intents")


@route("GET /v1/charges/{charge}")
def retrieve_charge(call: Call, identifier: str) -> Obj:
    return call.account.store.get("charge", identifier)


@route("GET /v1/charges", f"{LISTING} customer payment_intent")
def list_charges(call: Call) -> Obj:
    return page(_of(call, "charge", "customer", "payment_intent"), call.params, "/v1/charges")


def _of(call: Call, kind: str, *fields: str) -> list[Obj]:
    return call.account.store.all(kind, **{name: call.params[name] for name in fields if name in call.params})


@route("POST /v1/refunds", "charge payment_intent amount reason metadata")
def create_refund(call: Call) -> Obj:
    """Give back a part or all that is left of a charge, and never more than was paid."""
    account, params = call.account, call.params
    charge = _charge_to_refund(call)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left == 0:
        message = f"Charge {charge['id']} has already been refunded."
        raise invalid(message, code="charge_already_refunded")
    amount = integer(params, "amount", left) or 0
    if amount < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
    if amount > left:
        message = (
            f"Refund amount ({_money(amount)}) is greater than unrefunded amount on charge ({_money(left)})"
        )
        raise invalid(message, "amount")
    refund = account.make(
        "re",
        "refund",
        amount=amount,
        balance_transaction=new_id("txn"),
        charge=charge["id"],
        currency=charge["currency"],
        destination_details={"card": {"type": "refund"}, "type": "card"},
        metadata=merged_metadata({}, params.get("metadata")),
        payment_intent=charge["payment_intent"],
        reason=params.get("reason"),
        receipt_number=None,
        status="succeeded",
    )
    earlier = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    account.emit("charge.refunded", charge, {k: v for k, v in earlier.items() if charge[k] != v})
    del refund["livemode"]  # the one object that does not say
    account.emit("refund.created", refund)
    return refund


def _charge_to_refund(call: Call) -> Obj:
    store, params = call.account.store, call.params
    if "charge" in params:
        return store.get("charge", params["charge"], "charge")
    if "payment_intent" not in params:
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or charge."
        )
    intent = store.get("payment_intent", params["payment_intent"], "payment_intent")
    if intent["status"] != "succeeded":
        raise invalid(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
    return store.get("charge", intent["latest_charge"])


def _money(cents: int) -> str:
    return f"${cents / 100:.2f}"


@route("GET /v1/refunds/{refund}")
def retrieve_refund(call: Call, identifier: str) -> Obj:
    return call.account.store.get("refund", identifier)


@route("GET /v1/refunds", f"{LISTING} charge payment_intent")
def list_refunds(call: Call) -> Obj:
    return page(_of(call, "refund", "charge", "payment_intent"), call.params, "/v1/refunds")
