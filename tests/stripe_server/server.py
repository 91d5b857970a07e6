"""Serve the fake Stripe over HTTP."""

from __future__ import annotations

import base64
import copy
import http.server
import json
import socketserver
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import requests
import stripe

from tests.stripe_server.account import Account
from tests.stripe_server.api import Asked, browse, respond
from tests.stripe_server.control import obey
from tests.stripe_server.errors import StripeError
from tests.stripe_server.forms import Obj, decode
from tests.stripe_server.routing import Redirect
from tests.stripe_server.webhooks import Delivery, Endpoint, Outbox, signed

# A proxy of the machine's has no business with an address of our own.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # five by default: too few where a test calls from many threads

    def __init__(self, address: tuple[str, int], hang_seconds: float) -> None:
        super().__init__(address, _Handler)
        self.hang_seconds = hang_seconds
        self.stopping = threading.Event()
        self.account: Account

    def server_bind(self) -> None:
        # HTTPServer asks for the host's name, which takes seconds where no resolver answers.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(http.server.BaseHTTPRequestHandler):
    # One request a connection: a dropped answer then never hits a call beside it.
    protocol_version = "HTTP/1.1"

    @property
    def _http(self) -> _HTTPServer:
        return cast(_HTTPServer, self.server)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: calls are in the log of the control API."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        self.close_connection = True
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if url.path.startswith("/_control/"):
            self._control(url.path.removeprefix("/_control/"), body)
        elif url.path.startswith("/v1/"):
            self._api(method, url.path, decode(body or url.query))
        else:
            self._page(method, url.path, decode(body or url.query))

    def _api(self, method: str, path: str, params: Obj) -> None:
        key = _key(self.headers.get("Authorization") or "")
        asked = Asked(method, path, params, key, self.headers.get("Idempotency-Key"))
        response = respond(self._http.account, asked)
        if response.fault == "timeout":
            self._http.stopping.wait(self._http.hang_seconds)
        if response.fault in ("timeout", "drop_before", "drop_after"):
            return
        self._send(response.status, response.body, response.headers)

    def _page(self, method: str, path: str, params: Obj) -> None:
        found = browse(self._http.account, method, path, params)
        if isinstance(found, Redirect):
            self._send(303, b"", {"Location": found.url})
        elif not isinstance(found, dict):
            content = found.content.encode() if isinstance(found.content, str) else found.content
            self._send(found.status, content, {"Content-Type": found.kind})

    def _control(self, name: str, body: str) -> None:
        account = self._http.account
        try:
            with account.lock:
                status, answer = 200, json.dumps(obey(account, name, json.loads(body or "{}")))
        except StripeError as error:
            status, answer = error.status, json.dumps(error.body)
        self._send(status, answer.encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _key(authorization: str) -> str:
    """Return the account's key: the library sends it as Bearer, `curl -u sk_test_x:` as Basic."""
    scheme, _, value = authorization.partition(" ")
    if scheme == "Basic":
        return base64.b64decode(value).decode(errors="replace").split(":")[0]
    return value.strip()


class StripeServer:
    """Run the server while the block runs: `with StripeServer(webhook_url=...) as server:`.

    `now` stops its clock at these unix seconds; without it the clock ticks. `hang_seconds` is how long the
    fault "timeout" keeps a caller waiting.
    """

    def __init__(
        self,
        *,
        webhook_url: str | Sequence[str] | None = None,
        webhook_secret: str = "whsec_test",
        now: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        hang_seconds: float = 90,
        retry_delay: float = 0.2,
    ) -> None:
        urls = [webhook_url] if isinstance(webhook_url, str) else list(webhook_url or [])
        self.webhook_secret = webhook_secret
        self._http = _HTTPServer((host, port), hang_seconds)
        self.url = f"http://{host}:{self._http.server_port}"
        self._outbox = Outbox([Endpoint(url, webhook_secret) for url in urls], retry_delay)
        self._account = Account(url=self.url, frozen=now, outbox=self._outbox)
        self._http.account = self._account
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._http.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._outbox.stop()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def client(
        self, key: str = "sk_test_fake", *, retries: int = 0, timeout: float = 10
    ) -> stripe.StripeClient:
        """Return the real library's client for this server; `retries` are its own, with its own pauses."""
        session = requests.Session()
        session.trust_env = False  # no proxy
        return stripe.StripeClient(
            key,
            base_addresses={"api": self.url},
            max_network_retries=retries,
            http_client=stripe.RequestsClient(timeout=timeout, session=session),
        )

    def control(self, command: str, **arguments: Any) -> Obj:
        """Give a command (control.py lists them) and return its answer; ValueError where it is refused."""
        body = json.dumps(arguments).encode()
        request = urllib.request.Request(f"{self.url}/_control/{command}", body, method="POST")
        try:
            with _OPENER.open(request, timeout=60) as answer:
                return cast(Obj, json.load(answer))
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]["message"]) from error

    @property
    def now(self) -> int:
        with self._account.lock:
            return self._account.now

    def events(self, kind: str | None = None) -> list[Obj]:
        """Return the events so far, oldest first; of one type if named."""
        with self._account.lock:
            having = {} if kind is None else {"type": kind}
            return copy.deepcopy(self._account.store.all("event", **having))

    def signed(self, event: Obj) -> Delivery:
        """Return the signed request for an event, for a receiver that is called without HTTP."""
        return signed(event, self.webhook_secret)

    def take_held(self, order: str = "normal", repeat: int = 1, seed: int = 0) -> list[Delivery]:
        """Return what is held as signed requests instead of sending it; nothing is held any more."""
        with self._account.lock:
            return [self.signed(event) for event in self._outbox.release(order, repeat, seed)]

    def wait_for_webhooks(self, timeout: float = 10) -> None:
        """Return when every webhook under way has been delivered or given up; TimeoutError otherwise."""
        if not self._outbox.wait(timeout):
            raise TimeoutError(f"Webhooks are still under way after {timeout} seconds.")
