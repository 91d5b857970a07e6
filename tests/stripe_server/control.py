"""Answer the commands that Stripe does not have: POST /_control/NAME with a JSON object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from tests.stripe_server.account import Account, Settings
from tests.stripe_server.cards import set_outcome
from tests.stripe_server.checkout import complete
from tests.stripe_server.customers import living_customer
from tests.stripe_server.cycles import run_until
from tests.stripe_server.errors import invalid
from tests.stripe_server.faults import KINDS, Faults
from tests.stripe_server.forms import Obj
from tests.stripe_server.webhooks import Endpoint

Command = Callable[..., Obj]


def advance(account: Account, seconds: int = 0, to: int | None = None) -> Obj:
    """Move the clock on, and carry out everything due on the way."""
    when = account.now + seconds if to is None else to
    if when < account.now:
        raise invalid("The clock cannot go back.", "to")
    run_until(account, when)
    return {"now": account.now}


def card(account: Account, customer: str, outcome: str) -> Obj:
    """Let the customer's cards work ("ok") or be declined from now on; the first call gives them one."""
    if outcome not in ("ok", "declined"):
        raise invalid("Invalid outcome: must be ok or declined", "outcome")
    return set_outcome(account, living_customer(account, customer), ok=outcome == "ok")


def pay(account: Account, session: str, outcome: str = "ok", email: str = "", tax_id: str = "") -> Obj:
    """Complete a checkout session as its page would."""
    found = account.store.get("checkout.session", session, "session")
    if found["status"] != "open":
        raise invalid(f"This session is {found['status']}.", "session")
    return {"paid": complete(account, found, works=outcome == "ok", email=email, tax_id=tax_id)}


def faults(
    account: Account,
    rate: float = 0.0,
    seed: int = 0,
    kinds: list[str] | None = None,
    script: list[str | None] | None = None,
) -> Obj:
    """Fail a share of the API calls, or exactly the next ones; called without anything, none."""
    account.faults = Faults(rate=rate, kinds=tuple(kinds or KINDS), seed=seed, script=script or [])
    return {"rate": rate, "kinds": list(account.faults.kinds)}


def webhooks(
    account: Account, mode: str | None = None, url: str | None = None, secret: str | None = None
) -> Obj:
    """Deliver at once ("now") or keep back ("hold"); or send to another address from now on."""
    if mode not in (None, "now", "hold"):
        raise invalid("Invalid mode: must be now or hold", "mode")
    outbox = account.outbox
    if mode:
        outbox.holding = mode == "hold"
    if url:
        known = secret or (outbox.endpoints[0].secret if outbox.endpoints else "whsec_test")
        outbox.endpoints = [Endpoint(url, known)]
    return {"holding": outbox.holding, "held": len(outbox.held), "urls": [e.url for e in outbox.endpoints]}


def deliver(account: Account, order: str = "normal", repeat: int = 1, seed: int = 0) -> Obj:
    """Send what is held: "normal", "reversed" or "shuffled", each event `repeat` times."""
    if order not in ("normal", "reversed", "shuffled"):
        raise invalid("Invalid order: must be normal, reversed or shuffled", "order")
    return {"sent": account.outbox.deliver(order, repeat, seed)}


def settings(account: Account, **changes: Any) -> Obj:
    """Set retry_days, after_retries ("unpaid", "canceled" or "past_due") and upcoming_days."""
    known = {field.name for field in fields(Settings)}
    if unknown := changes.keys() - known:
        raise invalid(f"Unknown settings: {', '.join(sorted(unknown))}.")
    for name, value in changes.items():
        setattr(account.settings, name, value)
    return {name: getattr(account.settings, name) for name in sorted(known)}


def log(account: Account) -> Obj:
    """Return the API calls made: method, path, params, idempotency_key, status, replayed, fault."""
    return {"data": list(account.calls)}


def deliveries(account: Account) -> Obj:
    """Return every attempt to deliver a webhook: event, type, url, attempt, status (0: no answer)."""
    return {"data": list(account.outbox.log)}


def reset(account: Account) -> Obj:
    """Forget everything but the addresses of the webhooks."""
    account.reset()
    return {}


COMMANDS: dict[str, Command] = {
    command.__name__: command
    for command in (advance, card, pay, faults, webhooks, deliver, settings, log, deliveries, reset)
}


def obey(account: Account, name: str, arguments: Obj) -> Obj:
    """Carry a command out; 404 for an unknown one, 400 for arguments it does not have."""
    command = COMMANDS.get(name)
    if command is None:
        raise invalid(f"Unknown command: {name}; known are {', '.join(COMMANDS)}.")
    try:
        return command(account, **arguments)
    except TypeError as error:
        raise invalid(str(error)) from error
