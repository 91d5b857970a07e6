"""Receive webhooks in tests: verify each as the real library does, and keep it."""

from __future__ import annotations

import http.server
import threading
from types import TracebackType
from typing import Any, Self

import stripe


class WebhookReceiver:
    """Listen on a port of its own; `statuses` are the answers to the next requests, then 200."""

    def __init__(self, secret: str = "whsec_test") -> None:
        self.secret = secret
        self.statuses: list[int] = []
        self.received: list[dict[str, Any]] = []  # accepted ones, in the order they came
        self._changed = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(body, self.headers["Stripe-Signature"]))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def take(self, body: bytes, signature: str) -> int:
        """Return the status to answer with: 400 for a signature that does not fit."""
        try:
            event = stripe.Webhook.construct_event(body, signature, self.secret)
        except stripe.SignatureVerificationError:
            return 400
        with self._changed:
            status = self.statuses.pop(0) if self.statuses else 200
            if status == 200:
                self.received.append(event.to_dict())
                self._changed.notify_all()
            return status

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
