"""Sign events and bring them to the endpoints: in order, from one thread, or when a test asks."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass, field

from tests.stripe_server.forms import Obj

ATTEMPTS = 4
# A proxy of the machine's has no business with an address of our own.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Endpoint:
    url: str
    secret: str


@dataclass(frozen=True)
class Delivery:
    """Hold one signed request, as it goes over the wire."""

    body: bytes
    headers: dict[str, str]


def signed(event: Obj, secret: str) -> Delivery:
    """Sign `t.payload` with HMAC-SHA256 (docs.stripe.com/webhooks#verify-manually).

    `t` is the machine's time and not the server's: the receiver refuses what is older than five minutes.
    """
    payload = json.dumps(event, indent=2)
    stamp = int(time.time())
    digest = hmac.new(secret.encode(), f"{stamp}.{payload}".encode(), hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": f"t={stamp},v1={digest}",
    }
    return Delivery(payload.encode(), headers)


@dataclass
class Outbox:
    """Bring events to their endpoints; keep them back while `holding`."""

    endpoints: list[Endpoint] = field(default_factory=list)
    retry_delay: float = 0.2  # seconds, times the number of attempts made
    holding: bool = False
    held: list[Obj] = field(default_factory=list)
    log: list[Obj] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: deque[Obj] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="stripe-webhooks", daemon=True)
        self._thread.start()

    def put(self, event: Obj) -> None:
        if self.holding:
            self.held.append(event)
        else:
            self._enqueue([event])

    def release(self, order: str, repeat: int, seed: int) -> list[Obj]:
        """Return what was held, in the order asked for, each `repeat` times running; nothing is held any more."""
        events = [event for event in self.held for _ in range(repeat)]
        self.held = []
        if order == "reversed":
            events.reverse()
        elif order == "shuffled":
            random.Random(seed).shuffle(events)
        return events

    def deliver(self, order: str = "normal", repeat: int = 1, seed: int = 0) -> int:
        events = self.release(order, repeat, seed)
        self._enqueue(events)
        return len(events)

    def wait(self, timeout: float) -> bool:
        """Return True as soon as nothing is under way."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    def clear(self) -> None:
        with self._changed:
            self._queue.clear()
            self.held, self.log = [], []
            self._changed.notify_all()

    def stop(self) -> None:
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout=5)

    def _enqueue(self, events: list[Obj]) -> None:
        with self._changed:
            self._queue.extend(events)
            self._changed.notify_all()

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopping.is_set())
                if self._stopping.is_set():
                    return
                event = self._queue.popleft()
                self._busy = True
            for endpoint in list(self.endpoints):
                self._send(event, endpoint)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _send(self, event: Obj, endpoint: Endpoint) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            delivery = signed(event, endpoint.secret)
            status = _post(endpoint.url, delivery)
            self.log.append(
                {"event": event["id"], "type": event["type"], "url": endpoint.url, "attempt": attempt}
                | {"status": status}
            )
            if 200 <= status < 300 or self._stopping.wait(self.retry_delay * attempt):
                return


def _post(url: str, delivery: Delivery) -> int:
    """Return the answer's status; 0 where there was none."""
    request = urllib.request.Request(url, delivery.body, delivery.headers, method="POST")
    try:
        with _OPENER.open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
