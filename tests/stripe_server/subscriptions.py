"""Answer for subscriptions."""

from __future__ import annotations

from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.clock import DAY
from tests.stripe_server.customers import living_customer
from tests.stripe_server.cycles import renew
from tests.stripe_server.errors import invalid, required
from tests.stripe_server.forms import Obj, flag, integer, merged_metadata, text
from tests.stripe_server.invoice_lines import single_line
from tests.stripe_server.prorating import plan_change
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.schedules import follow_items
from tests.stripe_server.store import page
from tests.stripe_server.subscription_change import carry_out, draft_change
from tests.stripe_server.subscription_end import ENDED, end_subscription
from tests.stripe_server.subscription_start import build_subscription, set_period, start_subscription

PAYMENT_BEHAVIORS = ("allow_incomplete", "default_incomplete", "error_if_incomplete")
SHARED = (
    "items metadata description default_payment_method payment_behavior proration_behavior automatic_tax trial_end "
    "cancel_at cancel_at_period_end cancellation_details off_session payment_settings"
)


def _payment_behavior(params: Obj) -> str:
    behavior = params.get("payment_behavior", "allow_incomplete")
    if behavior not in PAYMENT_BEHAVIORS:
        raise invalid(
            f"This server knows payment_behavior {', '.join(PAYMENT_BEHAVIORS)}.", "payment_behavior"
        )
    return str(behavior)


def trial_end_of(account: Account, params: Obj) -> int | None:
    """Return when a trial asked for by `trial_period_days` or `trial_end` ends."""
    if days := integer(params, "trial_period_days"):
        return account.now + days * DAY
    if params.get("trial_end") in (None, "now"):
        return None
    end = integer(params, "trial_end") or 0
    if end <= account.now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end")
    return end


@route("POST /v1/subscriptions", f"{SHARED} customer trial_period_days add_invoice_items collection_method")
def create_subscription(call: Call) -> Obj:
    account, params = call.account, call.params
    customer = living_customer(account, text(params, "customer"))
    if not params.get("items"):
        raise required("items")
    if params.get("collection_method", "charge_automatically") != "charge_automatically":
        raise invalid("This server knows only collection_method charge_automatically.", "collection_method")
    subscription = build_subscription(
        account,
        customer["id"],
        params["items"],
        default_payment_method=params.get("default_payment_method"),
        description=params.get("description"),
        metadata=merged_metadata({}, params.get("metadata")),
        trial_end=trial_end_of(account, params),
        automatic_tax=automatic_tax(params),
    )
    extra = [
        single_line(
            account, account.store.get("price", entry.get("price", "")), integer(entry, "quantity", 1) or 1
        )
        for entry in params.get("add_invoice_items", [])
    ]
    subscription.update(_ending(account, subscription, params))
    return start_subscription(account, subscription, extra, _payment_behavior(params))


def automatic_tax(params: Obj) -> Obj:
    enabled = flag(params.get("automatic_tax", {}), "enabled")
    return {"enabled": enabled, "liability": {"type": "self"} if enabled else None, "disabled_reason": None}


@route("GET /v1/subscriptions/{subscription}")
def retrieve_subscription(call: Call, identifier: str) -> Obj:
    return call.account.store.get("subscription", identifier)


@route("GET /v1/subscriptions", f"{LISTING} customer status price")
def list_subscriptions(call: Call) -> Obj:
    """Leave out what was canceled unless asked, as Stripe does."""
    params = call.params
    rows = call.account.store.all("subscription", **{k: params[k] for k in ("customer",) if k in params})
    status = params.get("status")
    if status is None:
        rows = [row for row in rows if row["status"] not in ENDED]
    elif status == "ended":
        rows = [row for row in rows if row["status"] in ENDED]
    elif status != "all":
        rows = [row for row in rows if row["status"] == status]
    if price := params.get("price"):
        rows = [row for row in rows if any(item["price"]["id"] == price for item in row["items"]["data"])]
    return page(rows, params, "/v1/subscriptions")


@route("POST /v1/subscriptions/{subscription}", f"{SHARED} proration_date billing_cycle_anchor")
def update_subscription(call: Call, identifier: str) -> Obj:
    account, params = call.account, call.params
    subscription = account.store.get("subscription", identifier)
    if subscription["status"] in ENDED and params.keys() - {"metadata", "cancellation_details"}:
        message = "A canceled subscription can only update its cancellation_details and metadata."
        raise invalid(message)
    if params.get("trial_end") not in (None, "now") and subscription["status"] != "trialing":
        raise invalid("This server can give a trial only when a subscription begins.", "trial_end")
    fields = _plain_changes(params, subscription) | _ending(account, subscription, params)
    behavior = _payment_behavior(params)
    change = plan_change(account, subscription, params.get("items", []))
    reset = params.get("billing_cycle_anchor", {}).get("type") == "now"
    if change.gone or change.fresh or reset:
        when = integer(params, "proration_date", account.now) or 0
        prorating = params.get("proration_behavior", "create_prorations")
        draft = draft_change(account, subscription, change, prorating, when, reset=reset)
        carry_out(account, subscription, draft, behavior, **fields)
        follow_items(account, subscription)
    else:
        with account.changing(subscription, "customer.subscription.updated"):
            subscription.update(fields)
            subscription["items"]["data"] = change.items  # their metadata may differ
    if "trial_end" in params:
        _move_trial(account, subscription, params)
    return subscription


def _plain_changes(params: Obj, subscription: Obj) -> Obj:
    names = ("description", "default_payment_method")
    changed: Obj = {name: params[name] or None for name in names if name in params}
    if "metadata" in params:
        changed["metadata"] = merged_metadata(subscription["metadata"], params["metadata"])
    if "automatic_tax" in params:
        changed["automatic_tax"] = automatic_tax(params)
    if details := params.get("cancellation_details"):
        changed["cancellation_details"] = subscription["cancellation_details"] | details
    return changed


def _ending(account: Account, subscription: Obj, params: Obj) -> Obj:
    """Return the fields that say when a subscription will end."""
    asked = {"cancel_at_period_end", "cancel_at"} & params.keys()
    if not asked:
        return {}
    if schedule := subscription["schedule"]:
        raise invalid(
            f"The subscription is managed by the subscription schedule `{schedule}`, and updating any cancelation "
            "behavior directly is not allowed. Please update the schedule instead.",
            asked.pop(),
        )
    return ending(account, subscription, flag(params, "cancel_at_period_end"), integer(params, "cancel_at"))


def ending(account: Account, subscription: Obj, at_period_end: bool, cancel_at: int | None = None) -> Obj:
    period_end = subscription["items"]["data"][0]["current_period_end"]
    when: Any = period_end if at_period_end else cancel_at
    reason = "cancellation_requested" if when else None
    return {
        "cancel_at_period_end": at_period_end,
        "cancel_at": when,
        "canceled_at": account.now if when else None,
        "cancellation_details": subscription["cancellation_details"] | {"reason": reason},
    }


def _move_trial(account: Account, subscription: Obj, params: Obj) -> None:
    if subscription["status"] != "trialing":
        return
    end = trial_end_of(account, params)
    with account.changing(subscription, "customer.subscription.updated"):
        subscription["trial_end"] = subscription["billing_cycle_anchor"] = end or account.now
        item = subscription["items"]["data"][0]
        set_period(subscription, item["current_period_start"], end or account.now)
    if end is None:
        renew(account, subscription)


@route("DELETE /v1/subscriptions/{subscription}", "prorate invoice_now cancellation_details")
def cancel_subscription(call: Call, identifier: str) -> Obj:
    subscription = call.account.store.get("subscription", identifier)
    if subscription["status"] in ENDED:
        raise invalid(f"No such subscription: '{identifier}'", "id", "resource_missing")
    details: Obj = call.params.get("cancellation_details", {})
    subscription["cancellation_details"] = subscription["cancellation_details"] | details
    end_subscription(
        call.account,
        subscription,
        reason="cancellation_requested",
        prorate=flag(call.params, "prorate"),
        invoice_now=flag(call.params, "invoice_now"),
    )
    return subscription
