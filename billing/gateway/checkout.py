"""Who buys, and the pages of Stripe's where they pay and look after their card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.gateway.talking import lines_of, once_for, talking
from billing.stripe_rows import Lines


def make_customer(*, team_uid: str, name: str, email: str) -> str:
    """Make the customer of a team and return its id; the same team gets the same customer again."""
    with talking() as api:
        # Made of what never changes, so that the key fits whoever presses, and named after that.
        made = api.customers.create({"metadata": {"team": team_uid}}, once_for(f"customer:{team_uid}"))
        api.customers.update(made.id, {"name": name, "email": email})
        return str(made.id)


def open_checkout(
    *,
    customer: str,
    lines: Lines,
    back: str,
    subscribe: bool,
    notes: Mapping[str, str],
    trial_days: int = 0,
    once: str,
) -> str:
    """Open a page of Stripe's where the customer pays, and return its address. `back` is where it leads back to.

    `once` names this press of the button: a double click opens one page.
    """
    with talking() as api:
        params: dict[str, Any] = {
            "mode": "subscription" if subscribe else "payment",
            "customer": customer,
            "customer_update": {"name": "auto", "address": "auto"},
            "line_items": lines_of(api, lines),
            "success_url": f"{back}?paid={{CHECKOUT_SESSION_ID}}",
            "cancel_url": back,
            "metadata": dict(notes),
            "tax_id_collection": {"enabled": True},
        }
        if subscribe:
            params["subscription_data"] = {"metadata": dict(notes)}
            if trial_days:
                params["subscription_data"]["trial_period_days"] = trial_days
        else:
            params["invoice_creation"] = {"enabled": True}
        session = api.checkout.sessions.create(params, once_for(f"checkout:{once}"))  # type: ignore[arg-type]
        return str(session.url)


def open_portal(*, customer: str, back: str) -> str:
    """Open Stripe's page for cards, tax ids and invoices, and return its address."""
    with talking() as api:
        return str(api.billing_portal.sessions.create({"customer": customer, "return_url": back}).url)


def close_checkouts(customer: str, *, but: str) -> None:
    """Close the pages on which a customer could still pay for another subscription than the one named `but`."""
    with talking() as api:
        for session in api.checkout.sessions.list({"customer": customer, "limit": 100}).data:
            notes = session.metadata.to_dict() if session.metadata else {}
            if session.status == "open" and session.mode == "subscription" and notes.get("once") != but:
                api.checkout.sessions.expire(session.id)
