"""Count usage: billing meters, their events, and what a customer used in a time."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from tests.stripe_server.account import Account
from tests.stripe_server.clock import DAY, HOUR
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj, amount, integer, text
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import list_object, new_id, page

OLDEST, FUTURE = 35 * DAY, 300  # seconds: what Stripe takes an event's timestamp to be at most


@route(
    "POST /v1/billing/meters",
    "display_name event_name default_aggregation customer_mapping value_settings event_time_window",
)
def create_meter(call: Call) -> Obj:
    event_name, params = text(call.params, "event_name"), call.params
    if call.account.store.all("billing.meter", event_name=event_name, status="active"):
        raise invalid(f"There is already an active meter for event name {event_name}.", "event_name")
    formula = params.get("default_aggregation", {}).get("formula")
    if formula not in ("sum", "count", "last"):
        raise invalid("Invalid default_aggregation[formula]: must be one of count, last, or sum")
    return call.account.make(
        "mtr_test",
        "billing.meter",
        customer_mapping=params.get("customer_mapping")
        or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        default_aggregation={"formula": formula},
        display_name=text(params, "display_name"),
        event_name=event_name,
        event_time_window=params.get("event_time_window"),
        status="active",
        status_transitions={"deactivated_at": None},
        updated=call.account.now,
        value_settings=params.get("value_settings") or {"event_payload_key": "value"},
    )


@route("GET /v1/billing/meters/{meter}")
def retrieve_meter(call: Call, identifier: str) -> Obj:
    return call.account.store.get("billing.meter", identifier)


@route("GET /v1/billing/meters", f"{LISTING} status")
def list_meters(call: Call) -> Obj:
    having = {"status": call.params["status"]} if "status" in call.params else {}
    return page(call.account.store.all("billing.meter", **having), call.params, "/v1/billing/meters")


@route("POST /v1/billing/meter_events", "event_name payload identifier timestamp")
def create_meter_event(call: Call) -> Obj:
    """Count an event once: Stripe answers 400 to an identifier it knows, with this message and no code."""
    account, params = call.account, call.params
    name, payload = text(params, "event_name"), params.get("payload", {})
    meter = next(iter(account.store.all("billing.meter", event_name=name, status="active")), None)
    if meter is None:
        raise invalid(f"No active meter found for event name {name}.", "event_name", "resource_missing")
    customer = payload.get(meter["customer_mapping"]["event_payload_key"])
    account.store.get("customer", str(customer), "payload[stripe_customer_id]")
    if meter["default_aggregation"]["formula"] != "count":
        _check_value(payload.get(meter["value_settings"]["event_payload_key"]))
    when = integer(params, "timestamp", account.now) or 0
    if not account.now - OLDEST <= when <= account.now + FUTURE:
        raise invalid(
            "The timestamp must be within the past 35 days or up to 5 minutes in the future.", "timestamp"
        )
    identifier = params.get("identifier") or new_id("evt")
    if account.store.all("billing.meter_event", identifier=identifier):
        raise invalid(f"An event already exists with identifier {identifier}.")
    event = account.make(
        "mtrev",
        "billing.meter_event",
        event_name=name,
        identifier=identifier,
        payload=payload,
        timestamp=when,
    )
    return {name: value for name, value in event.items() if name != "id"}  # Stripe shows none


def _check_value(value: object) -> None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise invalid(f"Invalid meter event value: {value}", "payload[value]") from None
    if not number.is_finite() or number < 0:
        raise invalid(f"Invalid meter event value: {value}", "payload[value]")


def usage(account: Account, meter: Obj, customer: str, start: int, end: int) -> Decimal:
    """Return what the customer used from `start` up to but without `end`."""
    who, what = meter["customer_mapping"]["event_payload_key"], meter["value_settings"]["event_payload_key"]
    events = [
        event
        for event in account.store.all("billing.meter_event", event_name=meter["event_name"])
        if event["payload"].get(who) == customer and start <= event["timestamp"] < end
    ]
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return Decimal(len(events))
    values = [Decimal(event["payload"][what]) for event in sorted(events, key=lambda e: e["timestamp"])]
    return (values[-1] if values else Decimal(0)) if formula == "last" else sum(values, Decimal(0))


@route(
    "GET /v1/billing/meters/{meter}/event_summaries",
    f"{LISTING} customer start_time end_time value_grouping_window",
)
def list_summaries(call: Call, identifier: str) -> Obj:
    """Sum up a customer's usage, whole or by hour or day; like Stripe, only between whole minutes."""
    account, params = call.account, call.params
    meter = account.store.get("billing.meter", identifier)
    customer, start, end = text(params, "customer"), amount(params, "start_time"), amount(params, "end_time")
    if start % 60 or end % 60:
        raise invalid("start_time and end_time must align with minute boundaries.", "start_time")
    step = {"hour": HOUR, "day": DAY}.get(params.get("value_grouping_window", ""), end - start)
    rows = [
        _summary(account, meter, customer, at, min(at + step, end)) for at in range(start, end, step or 1)
    ]
    return list_object([row for row in rows if row["aggregated_value"]], call.path)


def _summary(account: Account, meter: Obj, customer: str, start: int, end: int) -> Obj:
    return {
        "id": new_id("mtrusg"),
        "object": "billing.meter_event_summary",
        "aggregated_value": float(usage(account, meter, customer, start, end)),
        "start_time": start,
        "end_time": end,
        "livemode": False,
        "meter": meter["id"],
    }
