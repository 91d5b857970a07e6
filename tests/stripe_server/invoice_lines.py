"""Write the lines of invoices: periods, usage, prorations and single items."""

from __future__ import annotations

from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.catalog import is_metered, price_of
from tests.stripe_server.clock import written
from tests.stripe_server.forms import Obj
from tests.stripe_server.meters import usage
from tests.stripe_server.store import new_id

Period = tuple[int, int]


def product_name(account: Account, price: Obj) -> str:
    return str(account.store.get("product", price["product"])["name"])


def pricing(price: Obj | None, unit_amount_decimal: str | None) -> Obj:
    details = {"price": price["id"], "product": price["product"]} if price else None
    return {"type": "price_details", "price_details": details, "unit_amount_decimal": unit_amount_decimal}


def _line(amount: int, description: str | None, period: Period, parent: Obj, **fields: Any) -> Obj:
    return {
        "id": new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": "usd",
        "description": description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": parent,
        "period": {"start": period[0], "end": period[1]},
        "pricing": None,
        "quantity": 1,
        "subscription": None,
        "subtotal": amount,
        "taxes": [],
    } | fields


def _item_parent(item: Obj, invoice_item: str | None, *, proration: bool) -> Obj:
    return {
        "type": "subscription_item_details",
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": invoice_item,
            "proration": proration,
            "proration_details": {"credited_items": None},
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
    }


def period_line(account: Account, item: Obj, period: Period, metadata: Obj, *, trial: bool = False) -> Obj:
    """Bill an item in advance for a period; for nothing while it is tried."""
    price, name = item["price"], product_name(account, item["price"])
    quantity = item.get("quantity") or 0
    cost = 0 if trial else price_of(account, price, quantity)
    each = f"${(price['unit_amount'] or 0) / 100:.2f} / {price['recurring']['interval']}"
    return _line(
        cost,
        f"Trial period for {name}" if trial else f"{quantity} × {name} (at {each})",
        period,
        _item_parent(item, None, proration=False),
        currency=price["currency"],
        metadata=metadata,
        pricing=pricing(price, price["unit_amount_decimal"]),
        quantity=quantity,
        subscription=item["subscription"],
    )


def usage_line(account: Account, item: Obj, customer: str, period: Period, metadata: Obj) -> Obj:
    """Bill what was used in a period that is over, or up to now for a preview; never from before the item was there."""
    price = item["price"]
    period = (max(period[0], min(item["created"], period[1])), period[1])
    meter = account.store.get("billing.meter", price["recurring"]["meter"])
    units = usage(account, meter, customer, *period)
    return _line(
        price_of(account, price, units),
        f"{units} × {product_name(account, price)}",
        period,
        _item_parent(item, None, proration=False),
        currency=price["currency"],
        metadata=metadata,
        pricing=pricing(price, price["unit_amount_decimal"]),
        quantity=int(units),
        quantity_decimal=str(units),
        subscription=item["subscription"],
    )


def single_line(account: Account, price: Obj, quantity: int, metadata: Obj | None = None) -> Obj:
    """Bill a one-time price."""
    parent: Obj = {"type": "invoice_item_details", "subscription_item_details": None}
    parent |= {
        "invoice_item_details": {"invoice_item": new_id("ii"), "proration": False, "subscription": None}
    }
    return _line(
        price_of(account, price, quantity),
        product_name(account, price),
        (account.now, account.now),
        parent,
        currency=price["currency"],
        metadata=metadata or {},
        pricing=pricing(price, price["unit_amount_decimal"]),
        quantity=quantity,
    )


def line_of_item(invoice_item: Obj) -> Obj:
    """Bill an invoice item; a proration keeps the subscription item it came from as its parent."""
    subscription = (invoice_item["parent"] or {}).get("subscription_details")
    if subscription and subscription.get("subscription_item"):
        item = {"id": subscription["subscription_item"], "subscription": subscription["subscription"]}
        parent = _item_parent(item, invoice_item["id"], proration=invoice_item["proration"])
    else:
        parent = {"type": "invoice_item_details", "subscription_item_details": None}
        details = {"invoice_item": invoice_item["id"], "proration": False, "proration_details": None}
        of = subscription["subscription"] if subscription else None
        parent |= {"invoice_item_details": details | {"subscription": of}}
    period = (invoice_item["period"]["start"], invoice_item["period"]["end"])
    return _line(
        invoice_item["amount"],
        invoice_item["description"],
        period,
        parent,
        currency=invoice_item["currency"],
        discountable=not invoice_item["proration"],
        metadata=invoice_item["metadata"],
        pricing=invoice_item["pricing"],
        quantity=invoice_item["quantity"],
        subscription=subscription["subscription"] if subscription else None,
    )


def new_item(account: Account, customer: str, amount: int, currency: str, **fields: Any) -> Obj:
    """Build an invoice item, not kept yet: a preview needs one that nobody will ever find."""
    item = {
        "id": new_id("ii"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "date": account.now,
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": None,
        "period": {"start": account.now, "end": account.now},
        "pricing": pricing(None, str(amount)),
        "proration": False,
        "quantity": 1,
    }
    return item | fields


def usage_item(account: Account, item: Obj, customer: str, period: Period) -> Obj:
    """Turn what was used of a metered item that goes away into an item for the next invoice."""
    line = usage_line(account, item, customer, period, {})
    parent = {"subscription": item["subscription"], "subscription_item": item["id"]}
    return new_item(
        account,
        customer,
        line["amount"],
        line["currency"],
        description=line["description"],
        parent={"type": "subscription_details", "subscription_details": parent},
        period=line["period"],
        pricing=line["pricing"],
        quantity=line["quantity"],
    )


def pending_items(account: Account, customer: str, subscription: str | None) -> list[Obj]:
    """Return the items that wait for the next invoice: the subscription's, and those of none."""
    waiting = account.store.all("invoiceitem", customer=customer, invoice=None)
    return [item for item in waiting if _subscription_of(item) in (subscription, None)]


def _subscription_of(item: Obj) -> str | None:
    details = (item["parent"] or {}).get("subscription_details") or {}
    subscription: str | None = details.get("subscription")
    return subscription


def proration_item(account: Account, item: Obj, customer: str, amount: int, period: Period) -> Obj:
    """Build the credit (amount below 0) or the charge for the rest of a period."""
    price, quantity = item["price"], item.get("quantity") or 1
    what = "Unused" if amount < 0 else "Remaining"
    parent = {"subscription": item["subscription"], "subscription_item": item["id"]}
    return new_item(
        account,
        customer,
        amount,
        price["currency"],
        description=f"{what} time on {quantity} × {product_name(account, price)} after {written(period[0])}",
        discountable=False,
        parent={"type": "subscription_details", "subscription_details": parent},
        period={"start": period[0], "end": period[1]},
        pricing=pricing(price, price["unit_amount_decimal"]),
        proration=True,
        quantity=quantity,
    )


def period_lines(account: Account, subscription: Obj, period: Period, *, trial: bool = False) -> list[Obj]:
    """Bill every licensed item for a period; usage is billed when it is over."""
    items, metadata = subscription["items"]["data"], subscription["metadata"]
    return [
        period_line(account, item, period, metadata, trial=trial)
        for item in items
        if not is_metered(item["price"])
    ]


def usage_lines(account: Account, subscription: Obj, period: Period) -> list[Obj]:
    items, who = subscription["items"]["data"], subscription["customer"]
    metered = [item for item in items if is_metered(item["price"])]
    return [usage_line(account, item, who, period, subscription["metadata"]) for item in metered]
