"""Change subscriptions later: schedules and their phases."""

from __future__ import annotations

from typing import Any

from tests.stripe_server.account import Account
from tests.stripe_server.catalog import is_metered
from tests.stripe_server.clock import plus_interval
from tests.stripe_server.errors import invalid, required
from tests.stripe_server.forms import Obj, integer, merged_metadata, text
from tests.stripe_server.prorating import Change, plan_change, recurring_price
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import page
from tests.stripe_server.subscription_change import carry_out, draft_change
from tests.stripe_server.subscription_end import end_subscription

OVER = ("released", "canceled", "completed")


def _phase(start: int, end: int, items: list[Obj], **fields: Any) -> Obj:
    shown: Obj = {"metadata": {}, "proration_behavior": "create_prorations", "trial_end": None}
    return {"start_date": start, "end_date": end, "items": items} | shown | fields


def _phase_items(subscription: Obj) -> list[Obj]:
    return [
        {"price": item["price"]["id"], "quantity": item.get("quantity"), "metadata": item["metadata"]}
        for item in subscription["items"]["data"]
    ]


@route("POST /v1/subscription_schedules", "from_subscription metadata")
def create_schedule(call: Call) -> Obj:
    """Begin a schedule with the subscription's present period as its only phase."""
    account = call.account
    subscription = account.store.get(
        "subscription", text(call.params, "from_subscription"), "from_subscription"
    )
    if subscription["schedule"]:
        raise invalid(
            "You cannot migrate a subscription that is already attached to a schedule: "
            f"{subscription['schedule']}.",
            "from_subscription",
        )
    item = subscription["items"]["data"][0]
    phase = _phase(item["current_period_start"], item["current_period_end"], _phase_items(subscription))
    schedule = account.make(
        "sub_sched",
        "subscription_schedule",
        canceled_at=None,
        completed_at=None,
        current_phase={"start_date": phase["start_date"], "end_date": phase["end_date"]},
        customer=subscription["customer"],
        end_behavior="release",
        metadata=merged_metadata({}, call.params.get("metadata")),
        phases=[phase],
        released_at=None,
        released_subscription=None,
        status="active",
        subscription=subscription["id"],
        test_clock=None,
    )
    with account.changing(subscription, "customer.subscription.updated"):
        subscription["schedule"] = schedule["id"]
    account.emit("subscription_schedule.created", schedule)
    return schedule


@route("GET /v1/subscription_schedules/{schedule}")
def retrieve_schedule(call: Call, identifier: str) -> Obj:
    return call.account.store.get("subscription_schedule", identifier)


@route("GET /v1/subscription_schedules", f"{LISTING} customer")
def list_schedules(call: Call) -> Obj:
    having = {"customer": call.params["customer"]} if "customer" in call.params else {}
    rows = call.account.store.all("subscription_schedule", **having)
    return page(rows, call.params, "/v1/subscription_schedules")


@route("POST /v1/subscription_schedules/{schedule}", "phases end_behavior metadata proration_behavior")
def update_schedule(call: Call, identifier: str) -> Obj:
    """Write the phases anew; the one that runs must begin when it began."""
    account, params = call.account, call.params
    schedule = _running(account, identifier)
    phases = _phases(account, schedule, params["phases"]) if "phases" in params else schedule["phases"]
    end_behavior = params.get("end_behavior", schedule["end_behavior"])
    if end_behavior not in ("release", "cancel"):
        raise invalid("Invalid end_behavior: must be one of cancel or release", "end_behavior")
    with account.changing(schedule, "subscription_schedule.updated"):
        schedule.update(phases=phases, end_behavior=end_behavior)
        schedule["metadata"] = merged_metadata(schedule["metadata"], params.get("metadata"))
        schedule["current_phase"] = {name: phases[0][name] for name in ("start_date", "end_date")}
    return schedule


def _running(account: Account, identifier: str) -> Obj:
    schedule = account.store.get("subscription_schedule", identifier)
    if schedule["status"] in OVER:
        raise invalid(f"You cannot update a subscription schedule that is {schedule['status']}.")
    return schedule


def _phases(account: Account, schedule: Obj, asked: list[Obj]) -> list[Obj]:
    start, phases = schedule["current_phase"]["start_date"], []
    for place, entry in enumerate(asked):
        param = f"phases[{place}]"
        if (integer(entry, "start_date", start) or 0) != start:
            message = "The start date of a phase must be the end of the one before it."
            if place == 0:
                message = "You can not modify the start date of the current phase."
            raise invalid(message, f"{param}[start_date]")
        end = _phase_end(entry, start)
        if end is None and place < len(asked) - 1:
            raise invalid("Only the last phase may be without end.", f"{param}[end_date]")
        if not entry.get("items"):
            raise required(f"{param}[items]")
        items = [_phase_item(account, item, param) for item in entry["items"]]
        fields = {"proration_behavior": entry.get("proration_behavior", "create_prorations")}
        fields["metadata"] = merged_metadata({}, entry.get("metadata"))
        # Without an end Stripe makes it one period long.
        recurring = account.store.get("price", items[0]["price"])["recurring"]
        end = end or plus_interval(start, recurring["interval"], recurring["interval_count"])
        phases.append(_phase(start, end, items, **fields))
        start = end
    return phases


def _phase_end(entry: Obj, start: int) -> int | None:
    if "iterations" in entry:
        raise invalid("Received unknown parameter: phases[iterations]", "phases", "parameter_unknown")
    if duration := entry.get("duration"):
        return plus_interval(start, text(duration, "interval"), integer(duration, "interval_count", 1) or 1)
    return integer(entry, "end_date")


def _phase_item(account: Account, entry: Obj, param: str) -> Obj:
    price = recurring_price(account, entry, f"{param}[items]")
    quantity = None if is_metered(price) else integer(entry, "quantity", 1)
    metadata = merged_metadata({}, entry.get("metadata"))
    return {"price": price["id"], "quantity": quantity, "metadata": metadata}


@route("POST /v1/subscription_schedules/{schedule}/release")
def release_schedule(call: Call, identifier: str) -> Obj:
    schedule = _running(call.account, identifier)
    release(call.account, schedule)
    return schedule


@route("POST /v1/subscription_schedules/{schedule}/cancel")
def cancel_schedule(call: Call, identifier: str) -> Obj:
    """Cancel the subscription with its schedule."""
    schedule = _running(call.account, identifier)
    subscription = call.account.store.get("subscription", schedule["subscription"])
    end_subscription(call.account, subscription, reason="cancellation_requested")
    return schedule


def release(account: Account, schedule: Obj) -> None:
    """Leave the subscription as it is, on its own again."""
    subscription = account.store.get("subscription", schedule["subscription"])
    schedule.update(
        status="released",
        released_at=account.now,
        released_subscription=subscription["id"],
        subscription=None,
        current_phase=None,
    )
    with account.changing(subscription, "customer.subscription.updated"):
        subscription["schedule"] = None
    account.emit("subscription_schedule.released", schedule)


def follow_items(account: Account, subscription: Obj) -> None:
    """Let the running phase show what the subscription was changed to directly."""
    if subscription["schedule"]:
        schedule = account.store.get("subscription_schedule", subscription["schedule"])
        with account.changing(schedule, "subscription_schedule.updated"):
            phases = schedule["phases"]
            schedule["phases"] = [phases[0] | {"items": _phase_items(subscription)}, *phases[1:]]


def next_phase(account: Account, schedule: Obj) -> None:
    """Go on to the phase that begins now; after the last one, end as `end_behavior` says."""
    subscription = account.store.get("subscription", schedule["subscription"])
    following = schedule["phases"][1:]
    if not following:
        if schedule["end_behavior"] == "cancel":
            schedule.update(completed_at=account.now)
            end_subscription(account, subscription, reason="cancellation_requested")
        else:
            release(account, schedule)
        return
    phase = following[0]
    change = _change_to(account, subscription, phase)
    if account.now >= subscription["items"]["data"][0]["current_period_end"]:
        _swap_items(account, subscription, change, phase["proration_behavior"])
    else:
        draft = draft_change(account, subscription, change, phase["proration_behavior"], account.now)
        carry_out(account, subscription, draft, "allow_incomplete")
    with account.changing(schedule, "subscription_schedule.updated"):
        schedule["phases"] = following
        schedule["current_phase"] = {name: phase[name] for name in ("start_date", "end_date")}


def _change_to(account: Account, subscription: Obj, phase: Obj) -> Change:
    """Keep the items whose price stays, so that their ids do; remove and add the others."""
    wanted = {item["price"]: item for item in phase["items"]}
    asked: list[Obj] = []
    for item in subscription["items"]["data"]:
        same = wanted.pop(item["price"]["id"], None)
        if same is None:
            asked.append({"id": item["id"], "deleted": "true"})
        elif same["quantity"] is not None:
            asked.append({"id": item["id"], "quantity": same["quantity"]})
    asked += [
        {"price": price} | ({"quantity": item["quantity"]} if item["quantity"] is not None else {})
        for price, item in wanted.items()
    ]
    return plan_change(account, subscription, asked)


def _swap_items(account: Account, subscription: Obj, change: Change, behavior: str) -> None:
    """Change the items at the very end of a period: nothing is left to prorate, and the renewal bills the new ones."""
    if behavior != "none":
        for item in change.last_usage(account, subscription["customer"], account.now):
            account.store.add(item)
    with account.changing(subscription, "customer.subscription.updated"):
        subscription["items"] = subscription["items"] | {"data": change.items}
        if change.new_interval:
            subscription["billing_cycle_anchor"] = account.now
