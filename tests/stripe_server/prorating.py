"""Work out what a change of a subscription costs, by the second."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from decimal import Decimal

from tests.stripe_server.account import Account
from tests.stripe_server.catalog import cents, is_metered, make_price, price_of
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj, flag, integer, merged_metadata
from tests.stripe_server.invoice_lines import proration_item, usage_item
from tests.stripe_server.store import new_id


def share_left(account: Account, item: Obj, when: int) -> int:
    """Return what the rest of the item's period is worth, in cents, halves away from zero."""
    if is_metered(item["price"]):
        return 0
    start, end = item["current_period_start"], item["current_period_end"]
    left = Decimal(max(0, end - max(start, when))) / Decimal(end - start)
    return cents(price_of(account, item["price"], item["quantity"]) * left)


@dataclass
class Change:
    """Hold a subscription's items as they will be, and how they differ."""

    items: list[Obj]
    gone: list[Obj] = field(default_factory=list)  # as they were: removed, or with another price or quantity
    fresh: list[Obj] = field(
        default_factory=list
    )  # as they will be: added, or with another price or quantity
    new_interval: bool = False

    def prorations(self, account: Account, customer: str, when: int) -> list[Obj]:
        """Build the invoice items: a credit for what goes, a charge for what comes, none of zero."""
        comes = [] if self.new_interval else self.fresh  # a new interval is billed whole
        signed = [(item, -share_left(account, item, when)) for item in self.gone]
        signed += [(item, share_left(account, item, when)) for item in comes]
        return [
            proration_item(account, item, customer, amount, (when, item["current_period_end"]))
            for item, amount in signed
            if amount
        ]

    def last_usage(self, account: Account, customer: str, when: int) -> list[Obj]:
        """Bill what was used of metered items that go: their meter is asked no more."""
        metered = [item for item in self.gone if is_metered(item["price"])]
        billed = [usage_item(account, i, customer, (i["current_period_start"], when)) for i in metered]
        return [item for item in billed if item["amount"]]


def plan_change(account: Account, subscription: Obj, asked: list[Obj]) -> Change:
    """Return what an update of `items` means; nothing is changed yet.

    An entry without `id` adds an item, also where a change of price was meant: that is Stripe's trap.
    """
    current = subscription["items"]["data"]
    change = Change([copy.copy(item) for item in current])
    for place, entry in enumerate(asked):
        param = f"items[{place}]"
        if "id" in entry:
            _change_item(account, change, entry, param)
        else:
            new = new_subscription_item(account, subscription["id"], entry, param)
            for name in ("current_period_start", "current_period_end"):
                new[name] = current[0][name]
            change.items.append(new)
            change.fresh.append(new)
    check_items(change.items)
    before, after = (_interval(items[0]) for items in (current, change.items))
    change.new_interval = before != after
    return change


def _interval(item: Obj) -> tuple[str, int]:
    recurring = item["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


def _change_item(account: Account, change: Change, entry: Obj, param: str) -> None:
    old = next((item for item in change.items if item["id"] == entry["id"]), None)
    if old is None:
        raise invalid(f"No such subscription item: '{entry['id']}'", f"{param}[id]", "resource_missing")
    if flag(entry, "deleted"):
        change.items.remove(old)
        change.gone.append(old)
        return
    new = copy.copy(old)
    new["metadata"] = merged_metadata(old["metadata"], entry.get("metadata"))
    if "price" in entry or "price_data" in entry:
        new["price"] = recurring_price(account, entry, param)
        # Documented: a new price sets the quantity to 1 unless it is given too.
        new["quantity"] = None if is_metered(new["price"]) else 1
    if "quantity" in entry:
        new["quantity"] = _quantity(new["price"], entry, param)
    change.items[change.items.index(old)] = new
    if (old["price"]["id"], old.get("quantity")) != (new["price"]["id"], new.get("quantity")):
        change.gone.append(old)
        change.fresh.append(new)


def recurring_price(account: Account, entry: Obj, param: str) -> Obj:
    """Return the price an item names, or make the one it describes."""
    if "price_data" in entry:
        price = make_price(account, entry["price_data"])
    else:
        price = account.store.get("price", entry.get("price", ""), f"{param}[price]")
    if price["type"] != "recurring":
        message = "The price specified is set to `type=one_time` but this field only accepts prices with "
        raise invalid(f"{message}`type=recurring`.", f"{param}[price]")
    if not price["active"]:
        raise invalid(
            "The price specified is inactive. This field only accepts active prices.", f"{param}[price]"
        )
    return price


def _quantity(price: Obj, entry: Obj, param: str) -> int | None:
    if not is_metered(price):
        return integer(entry, "quantity", 1)
    if "quantity" in entry:
        message = "Quantity should not be specified where usage_type is `metered`."
        raise invalid(message, f"{param}[quantity]")
    return None


def new_subscription_item(account: Account, subscription: str, entry: Obj, param: str) -> Obj:
    price = recurring_price(account, entry, param)
    item: Obj = {
        "id": new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": account.now,
        "current_period_end": 0,
        "current_period_start": 0,
        "discounts": [],
        "metadata": merged_metadata({}, entry.get("metadata")),
        "price": price,
        "subscription": subscription,
        "tax_rates": [],
    }
    quantity = _quantity(price, entry, param)
    # A metered item has no quantity at all, not one that is null.
    return item if quantity is None else item | {"quantity": quantity}


def check_items(items: list[Obj]) -> None:
    """Refuse what Stripe refuses: nothing to bill, a price twice, and intervals or currencies that differ."""
    if not items:
        raise invalid("A subscription must have at least one active plan.", "items")
    if len({item["price"]["id"] for item in items}) < len(items):
        raise invalid("Cannot add multiple subscription items with the same plan.", "items")
    if len({_interval(item) for item in items}) > 1:
        raise invalid("If specifying multiple prices, they must have the same interval.", "items")
    if len({item["price"]["currency"] for item in items}) > 1:
        raise invalid("All prices on a subscription must have the same currency.", "items")
