"""Answer for products and prices, and work out what a quantity costs."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.errors import invalid, required
from tests.stripe_server.forms import Obj, flag, integer, merged_metadata, text
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import page

PRODUCT_FIELDS = "name active description metadata tax_code unit_label statement_descriptor url images"
PRICE_FIELDS = (
    "currency product product_data recurring unit_amount unit_amount_decimal nickname lookup_key transfer_lookup_key "
    "active metadata tax_behavior billing_scheme tiers tiers_mode"
)


def cents(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def price_of(account: Account, price: Obj, quantity: Decimal | int) -> int:
    """Return what a quantity costs in cents, tiers included (docs.stripe.com/products-prices/pricing-models)."""
    units = Decimal(quantity)
    if price["billing_scheme"] == "per_unit":
        return cents(units * Decimal(price["unit_amount_decimal"]))
    total, below = Decimal(0), Decimal(0)
    for tier in account.tiers[price["id"]]:
        limit = Decimal(tier["up_to"]) if tier["up_to"] is not None else units
        whole = price["tiers_mode"] == "volume"
        if whole and units > limit:
            continue
        inside = units if whole else max(Decimal(0), min(units, limit) - below)
        if inside or whole:
            total += inside * Decimal(tier["unit_amount_decimal"] or 0) + (tier["flat_amount"] or 0)
        if whole:
            break
        below = limit
    return cents(total)


def is_metered(price: Obj) -> bool:
    return bool(price["recurring"] and price["recurring"]["usage_type"] == "metered")


@route("POST /v1/products", f"id {PRODUCT_FIELDS}")
def create_product(call: Call) -> Obj:
    return make_product(call.account, text(call.params, "name"), call.params)


def make_product(account: Account, name: str, params: Obj) -> Obj:
    product = account.make(
        "prod",
        "product",
        active=flag(params, "active", default=True),
        default_price=None,
        description=params.get("description"),
        images=params.get("images", []),
        marketing_features=[],
        metadata=merged_metadata({}, params.get("metadata")),
        name=name,
        shippable=None,
        statement_descriptor=params.get("statement_descriptor"),
        tax_code=params.get("tax_code"),
        type="service",
        unit_label=params.get("unit_label"),
        updated=account.now,
        url=params.get("url"),
    )
    if chosen := params.get("id"):
        account.store.remove(product)
        account.store.add(product | {"id": chosen})
        return account.store.get("product", chosen)
    return product


@route("GET /v1/products/{product}")
def retrieve_product(call: Call, identifier: str) -> Obj:
    return call.account.store.get("product", identifier)


@route("POST /v1/products/{product}", PRODUCT_FIELDS + " default_price")
def update_product(call: Call, identifier: str) -> Obj:
    product = call.account.store.get("product", identifier)
    with call.account.changing(product, "product.updated"):
        product.update({k: v for k, v in call.params.items() if k not in ("active", "metadata", "expand")})
        product["active"] = flag(call.params, "active", default=product["active"])
        product["metadata"] = merged_metadata(product["metadata"], call.params.get("metadata"))
        product["updated"] = call.account.now
    return product


@route("GET /v1/products", f"{LISTING} active ids")
def list_products(call: Call) -> Obj:
    rows = call.account.store.all("product")
    if "active" in call.params:
        rows = [row for row in rows if row["active"] == flag(call.params, "active")]
    if "ids" in call.params:
        rows = [row for row in rows if row["id"] in call.params["ids"]]
    return page(rows, call.params, "/v1/products")


@route("POST /v1/prices", PRICE_FIELDS)
def create_price(call: Call) -> Obj:
    return make_price(call.account, call.params)


def make_price(account: Account, params: Obj) -> Obj:
    """Make a price of a product, or of one made with it by `product_data`."""
    currency = text(params, "currency").lower()
    recurring = _recurring(account, params.get("recurring"))
    tiers = [_tier(tier) for tier in params.get("tiers", [])]
    if (
        params.get("billing_scheme") != "tiered"
        and not {"unit_amount", "unit_amount_decimal"} & params.keys()
    ):
        raise required("unit_amount")
    if params.get("billing_scheme") == "tiered" and not (tiers and tiers[-1]["up_to"] is None):
        raise invalid("The last tier must be `up_to` inf.", "tiers")
    _claim_lookup_key(account, params)
    if data := params.get("product_data"):
        product = make_product(account, text(data, "name"), data)["id"]
    else:
        product = account.store.get("product", text(params, "product"), "product")["id"]
    decimal = params.get("unit_amount_decimal", params.get("unit_amount"))
    price = account.make(
        "price",
        "price",
        active=flag(params, "active", default=True),
        billing_scheme=params.get("billing_scheme", "per_unit"),
        currency=currency,
        custom_unit_amount=None,
        lookup_key=params.get("lookup_key"),
        metadata=merged_metadata({}, params.get("metadata")),
        nickname=params.get("nickname"),
        product=product,
        recurring=recurring,
        tax_behavior=params.get("tax_behavior", "unspecified"),
        tiers_mode=params.get("tiers_mode"),
        transform_quantity=None,
        type="recurring" if recurring else "one_time",
        # A fraction of a cent has no whole number: Stripe then leaves it out.
        unit_amount=int(decimal) if decimal is not None and Decimal(decimal) % 1 == 0 else None,
        unit_amount_decimal=decimal,
    )
    if tiers:
        account.tiers[price["id"]] = tiers
    return price


def _recurring(account: Account, asked: Any) -> Obj | None:
    if not asked:
        return None
    interval, usage = text(asked, "interval"), asked.get("usage_type", "licensed")
    if interval not in ("day", "week", "month", "year"):
        raise invalid(
            "Invalid recurring[interval]: must be one of day, month, week, or year", "recurring[interval]"
        )
    if usage == "metered":
        # Required since version 2025-03-31, which ended usage records.
        account.store.get("billing.meter", text(asked, "meter"), "recurring[meter]")
    return {
        "interval": interval,
        "interval_count": integer(asked, "interval_count", 1),
        "meter": asked.get("meter"),
        "trial_period_days": None,
        "usage_type": usage,
    }


def _tier(asked: Obj) -> Obj:
    decimal = asked.get("unit_amount_decimal", asked.get("unit_amount"))
    return {
        "flat_amount": integer(asked, "flat_amount"),
        "flat_amount_decimal": asked.get("flat_amount"),
        "unit_amount": integer(asked, "unit_amount"),
        "unit_amount_decimal": decimal,
        "up_to": None if asked.get("up_to") == "inf" else integer(asked, "up_to"),
    }


def _claim_lookup_key(account: Account, params: Obj) -> None:
    if not (key := params.get("lookup_key")):
        return
    for holder in account.store.all("price", lookup_key=key):
        if not flag(params, "transfer_lookup_key"):
            message = f"A price (`{holder['id']}`) already uses that lookup key."
            raise invalid(message, "lookup_key", "resource_already_exists")
        holder["lookup_key"] = None


@route("GET /v1/prices/{price}")
def retrieve_price(call: Call, identifier: str) -> Obj:
    return call.account.store.get("price", identifier)


@route("POST /v1/prices/{price}", "active metadata nickname lookup_key transfer_lookup_key tax_behavior")
def update_price(call: Call, identifier: str) -> Obj:
    """Change what may change: the amount of a price never does."""
    price, params = call.account.store.get("price", identifier), call.params
    if params.get("lookup_key") != price["lookup_key"]:
        _claim_lookup_key(call.account, params)
    with call.account.changing(price, "price.updated"):
        price.update(
            {k: params[k] or None for k in ("nickname", "lookup_key", "tax_behavior") if k in params}
        )
        price["active"] = flag(params, "active", default=price["active"])
        price["metadata"] = merged_metadata(price["metadata"], params.get("metadata"))
    return price


@route("GET /v1/prices", f"{LISTING} active product lookup_keys currency type")
def list_prices(call: Call) -> Obj:
    params = call.params
    rows = call.account.store.all(
        "price", **{k: params[k] for k in ("product", "currency", "type") if k in params}
    )
    if "active" in params:
        rows = [row for row in rows if row["active"] == flag(params, "active")]
    if "lookup_keys" in params:
        rows = [row for row in rows if row["lookup_key"] in params["lookup_keys"]]
    return page(rows, params, "/v1/prices")
