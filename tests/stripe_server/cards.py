"""Know the customers' cards, and which of them no longer work."""

from __future__ import annotations

from tests.stripe_server.account import Account
from tests.stripe_server.forms import Obj


def new_card(account: Account, customer: str | None, *, works: bool) -> Obj:
    """Make a card: 4242 works, 0341 can be saved and is declined when charged (docs.stripe.com/testing)."""
    card = account.make(
        "pm",
        "payment_method",
        billing_details={"address": None, "email": None, "name": None, "phone": None},
        card={
            "brand": "visa",
            "country": "US",
            "display_brand": "visa",
            "exp_month": 12,
            "exp_year": 2040,
            "funding": "credit",
            "last4": "4242" if works else "0341",
        },
        customer=customer,
        metadata={},
        type="card",
    )
    if not works:
        account.declining.add(card["id"])
    return card


def use_card(account: Account, customer: Obj, card: Obj) -> None:
    """Make a card the one that pays for everything of this customer's."""
    with account.changing(customer, "customer.updated"):
        customer["invoice_settings"] = customer["invoice_settings"] | {"default_payment_method": card["id"]}
    for subscription in account.store.all("subscription", customer=customer["id"]):
        if subscription["default_payment_method"]:
            with account.changing(subscription, "customer.subscription.updated"):
                subscription["default_payment_method"] = card["id"]


def card_of(account: Account, customer: str, subscription: Obj | None = None) -> Obj | None:
    """Return the card Stripe would charge: the subscription's, else the customer's default; none otherwise."""
    chosen = (subscription or {}).get("default_payment_method")
    owner = account.store.get("customer", customer)
    chosen = chosen or owner.get("invoice_settings", {}).get("default_payment_method")
    return account.store.get("payment_method", chosen) if chosen else None


def works(account: Account, card: Obj | None) -> bool:
    return card is not None and card["id"] not in account.declining


def set_outcome(account: Account, customer: Obj, *, ok: bool) -> Obj:
    """Let every card of the customer's work or be declined from now on; give them one if they have none."""
    if card_of(account, customer["id"]) is None:
        use_card(account, customer, new_card(account, customer["id"], works=ok))
    cards = account.store.all("payment_method", customer=customer["id"])
    ids = {card["id"] for card in cards}
    account.declining = account.declining - ids if ok else account.declining | ids
    return cards[-1]
