"""What is sold: products, prices and the meter."""

from __future__ import annotations

from typing import Any

import stripe

from billing.gateway.talking import once_for, talking

METER = "gpu_seconds"
CURRENCY = "usd"


def put_product(key: str, name: str) -> str:
    """Make or rename the product of a plan or a top-up and return its id."""
    with talking() as api:
        try:
            return str(api.products.update(key, {"name": name, "active": True}).id)
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
        made = api.products.create({"id": key, "name": name}, once_for(f"product:{key}"))
        return str(made.id)


def put_price(
    *, product: str, lookup_key: str, cents: float, every_month: bool, meter: str | None = None
) -> str:
    """Return the id of the price behind `lookup_key`, made anew where its amount changed.

    Prices never change at Stripe: the new one takes the key over, and subscriptions keep the old one until they move.
    """
    with talking() as api:
        found = list(api.prices.list({"lookup_keys": [lookup_key], "limit": 1}).data)
        amount = f"{cents:.12f}".rstrip("0").rstrip(".")
        if found and _amount(found[0]) == amount and found[0].active:
            return str(found[0].id)
        before = found[0].id if found else "none"
        params: dict[str, Any] = {
            "product": product,
            "currency": CURRENCY,
            "unit_amount_decimal": amount,
            "lookup_key": lookup_key,
            "transfer_lookup_key": True,
        }
        if every_month:
            params["recurring"] = {"interval": "month"}
            if meter is not None:
                params["recurring"] |= {"usage_type": "metered", "meter": meter}
        return str(api.prices.create(params, once_for(f"price:{lookup_key}:{amount}:{before}")).id)  # type: ignore[arg-type]


def put_meter() -> str:
    """Return the id of the meter that counts GPU seconds to be invoiced; make it if it is not there."""
    with talking() as api:
        for meter in api.billing.meters.list({"limit": 100}).data:
            if meter.event_name == METER and meter.status == "active":
                return str(meter.id)
        made = api.billing.meters.create(
            {
                "display_name": "GPU seconds",
                "event_name": METER,
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                "value_settings": {"event_payload_key": "value"},
            },
            once_for(f"meter:{METER}"),
        )
        return str(made.id)


def _amount(price: Any) -> str:
    text = str(price.unit_amount_decimal if price.unit_amount_decimal is not None else price.unit_amount)
    return text.rstrip("0").rstrip(".") if "." in text else text
