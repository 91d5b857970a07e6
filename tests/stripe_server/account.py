"""Hold everything the server knows: one Stripe account in test mode."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.stripe_server.clock import Clock
from tests.stripe_server.faults import Faults
from tests.stripe_server.forms import Obj
from tests.stripe_server.store import Store, new_id
from tests.stripe_server.webhooks import Outbox

API_VERSION = "2026-10-28.endive"  # stripe._api_version of the library in requirements


@dataclass
class Settings:
    """Hold what an owner chooses in Stripe's dashboard under Billing."""

    retry_days: list[int] = field(default_factory=lambda: [3, 5, 7])  # each after the attempt before it
    after_retries: str = "unpaid"  # or "canceled", "past_due"
    upcoming_days: int = 7


@dataclass
class Request:
    """Hold what an event tells of the call that caused it."""

    id: str | None = None
    idempotency_key: str | None = None


class Account:
    """Hold the objects, the clock and what Stripe knows but never shows. Use it under its lock only."""

    def __init__(self, *, url: str, frozen: int | None, outbox: Outbox) -> None:
        self.lock = threading.RLock()
        self.url = url
        self.outbox = outbox
        self._frozen = frozen
        self.reset()

    def reset(self) -> None:
        """Forget everything but the webhook endpoints."""
        self.clock = Clock(self._frozen)
        self.store = Store()
        self.settings = Settings()
        self.faults = Faults()
        self.request = Request()
        self.calls: list[Obj] = []
        self.answers: dict[str, Obj] = {}  # by Idempotency-Key
        self.declining: set[str] = set()  # ids of payment methods that no longer work
        self.tiers: dict[str, list[Obj]] = {}  # by price: shown only when expanded
        self.notices: set[tuple[str, str, int]] = set()  # (subscription, kind, end of period) told already
        self.checkout: dict[str, Obj] = {}  # by session: what it was asked to make
        self.outbox.holding = False
        self.outbox.clear()

    @property
    def now(self) -> int:
        return self.clock.now()

    def make(self, prefix: str, kind: str, **fields: Any) -> Obj:
        """Keep a new object of test mode."""
        obj = {"id": new_id(prefix), "object": kind, "created": self.now, "livemode": False} | fields
        return self.store.add(obj)

    def emit(self, kind: str, obj: Obj, previous: Obj | None = None) -> None:
        """Record an event with the object as it is now, and send it to the endpoints."""
        data: Obj = {"object": copy.deepcopy(obj)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = self.make(
            "evt",
            "event",
            api_version=API_VERSION,
            type=kind,
            data=data,
            pending_webhooks=len(self.outbox.endpoints),
            request={"id": self.request.id, "idempotency_key": self.request.idempotency_key},
        )
        self.outbox.put(event)

    @contextmanager
    def changing(self, obj: Obj, kind: str) -> Iterator[None]:
        """Emit `kind` with the earlier values of what the block changes; nothing if it changes nothing."""
        before = copy.deepcopy(obj)
        yield
        if previous := _difference(before, obj):
            self.emit(kind, obj, previous)


def _difference(before: Obj, after: Obj) -> Obj:
    changed: Obj = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        nested = isinstance(old, dict) and isinstance(new, dict) and name != "metadata"
        changed[name] = _difference(old, new) if nested else copy.deepcopy(old)  # type: ignore[arg-type]
    return changed
