"""A receiver of webhooks for tests: a real HTTP server that verifies what comes with the public package."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What the receiver answers; `pause` seconds pass before its first byte and between the pieces."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    pause: float = 0.0
    pieces: int = 1


Decide = Callable[[Received, int], Reply]


class Receiver:
    """Listens on a port of its own; `decide(request, how many came)` chooses the answer."""

    def __init__(self, secret: str = "", decide: Decide | None = None) -> None:
        self.secret = secret
        self.decide: Decide = decide or (lambda request, number: Reply())
        self.requests: list[Received] = []
        self.by_id: Counter[str] = Counter()
        self.unsigned: list[Received] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                request = Received(self.path, dict(self.headers.items()), self.rfile.read(length))
                receiver.answer(request, self)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?x=1"

    def answer(self, request: Received, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests.append(request)
            if self.secret and not verifies(request, self.secret):
                self.unsigned.append(request)
            number = len(self.requests)
        reply = self.decide(request, number)
        if 200 <= reply.status < 300:
            with self._lock:
                self.by_id[request.headers.get("webhook-id", "")] += 1
        try:
            time.sleep(reply.pause)
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(reply.body) * reply.pieces))
            handler.end_headers()
            for piece in range(reply.pieces):
                if piece:
                    time.sleep(reply.pause)
                handler.wfile.write(reply.body)
        except OSError:
            pass  # the sender hung up, as it should

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def verifies(request: Received, secret: str) -> bool:
    """Ask the public `standardwebhooks` package whether the request is signed with `secret`."""
    try:
        Webhook(secret).verify(request.body, request.headers)
    except WebhookVerificationError:
        return False
    return True


@contextmanager
def receiving(secret: str = "", decide: Decide | None = None) -> Iterator[Receiver]:
    """Run a receiver while the block runs."""
    receiver = Receiver(secret, decide)
    try:
        yield receiver
    finally:
        receiver.close()
