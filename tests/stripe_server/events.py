"""Answer for events and test clocks."""

from __future__ import annotations

import fnmatch

from tests.stripe_server.clock import DAY
from tests.stripe_server.cycles import run_until
from tests.stripe_server.errors import invalid
from tests.stripe_server.forms import Obj, amount
from tests.stripe_server.routing import LISTING, Call, route
from tests.stripe_server.store import page


@route("GET /v1/events/{event}")
def retrieve_event(call: Call, identifier: str) -> Obj:
    return call.account.store.get("event", identifier)


@route("GET /v1/events", f"{LISTING} type types")
def list_events(call: Call) -> Obj:
    """List events; a type may end in a star, as in `invoice.*`."""
    rows, wanted = call.account.store.all("event"), call.params.get("types", [])
    wanted = [*wanted, call.params["type"]] if "type" in call.params else wanted
    if wanted:
        rows = [row for row in rows if any(fnmatch.fnmatchcase(row["type"], pattern) for pattern in wanted)]
    return page(rows, call.params, "/v1/events")


@route("POST /v1/test_helpers/test_clocks", "frozen_time name")
def create_clock(call: Call) -> Obj:
    """Stop time. There is one clock, the server's: customers are not tied to one, and it never goes back."""
    account = call.account
    run_until(account, amount(call.params, "frozen_time"))
    account.clock.freeze()
    return account.make(
        "clock",
        "test_helpers.test_clock",
        deletes_after=account.now + 30 * DAY,
        frozen_time=account.now,
        name=call.params.get("name"),
        status="ready",
        status_details={},
    )


@route("GET /v1/test_helpers/test_clocks/{clock}")
def retrieve_clock(call: Call, identifier: str) -> Obj:
    return call.account.store.get("test_helpers.test_clock", identifier)


@route("GET /v1/test_helpers/test_clocks", LISTING)
def list_clocks(call: Call) -> Obj:
    return page(
        call.account.store.all("test_helpers.test_clock"), call.params, "/v1/test_helpers/test_clocks"
    )


@route("POST /v1/test_helpers/test_clocks/{clock}/advance", "frozen_time")
def advance_clock(call: Call, identifier: str) -> Obj:
    """Move on and carry out what is due. Stripe does so behind the answer; here it is done before it."""
    clock, when = (
        call.account.store.get("test_helpers.test_clock", identifier),
        amount(call.params, "frozen_time"),
    )
    if when < call.account.now:
        raise invalid("The new frozen_time must be after the current one.", "frozen_time")
    run_until(call.account, when)
    clock["frozen_time"] = when
    return clock
