"""Send requests: with the credential, again where that may help, and never twice what must happen once."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from lora_foundry.errors import ConnectionFailed, problem_of

LONGEST_WAIT = 60.0
_USER_AGENT = "lora-foundry-python/0.1.0"


@dataclass
class Answer:
    """Hold an answer: its status, headers (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; an empty one as None."""
        return json.loads(self.body) if self.body else None


@dataclass
class Transport:
    """Speak to one server with one credential. `sleep` can be replaced in tests."""

    api_key: str
    base_url: str
    timeout: float = 60.0
    retries: int = 5
    sleep: Callable[[float], None] = time.sleep
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, `body` as JSON or `content` as it is; raise a Problem, or ConnectionFailed.

        A POST gets an `Idempotency-Key` that all its tries share.
        """
        sent = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if method == "POST":
            sent.setdefault("Idempotency-Key", str(uuid.uuid4()))
        address = self.address(path, query)
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                answer = self.once(method, address, sent, content)
            except urllib3.exceptions.HTTPError as error:
                if last:
                    raise ConnectionFailed(f"{method} {address}: {error}") from error
                self.sleep(pause(attempt, None))
                continue
            if answer.status < 400:
                return answer
            problem = problem_of(
                answer.status, _document(answer), _seconds(answer.headers.get("retry-after"))
            )
            if last or not problem.retryable:
                raise problem
            self.sleep(pause(attempt, problem.retry_after))
        raise AssertionError("unreachable")

    def once(self, method: str, address: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        """Send a request once; the credential goes along to our own server only."""
        found = self.pool.request(
            method,
            address,
            headers={**self._credential(address), "User-Agent": _USER_AGENT, **headers},
            body=content,
            timeout=self.timeout,
            redirect=False,
            retries=False,
        )
        return Answer(
            found.status, {name.lower(): value for name, value in found.headers.items()}, found.data
        )

    def stream(self, address: str, headers: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        """Open an address for reading its body in pieces, following redirects away from the API."""
        for _hop in range(5):
            found = self.pool.request(
                "GET",
                address,
                headers={**self._credential(address), "User-Agent": _USER_AGENT, **(headers or {})},
                timeout=self.timeout,
                redirect=False,
                retries=False,
                preload_content=False,
            )
            location = found.headers.get("Location")
            if found.status not in (301, 302, 303, 307, 308) or not location:
                break
            found.drain_conn()
            found.release_conn()
            address = urljoin(address, location)
        if found.status >= 400:
            answer = Answer(found.status, {}, found.read())
            raise problem_of(found.status, _document(answer), _seconds(found.headers.get("Retry-After")))
        return found

    def address(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """Return the address of a path of the API, or the address itself."""
        address = path if "://" in path else f"{self.base_url.rstrip('/')}/api/v1{path}"
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        return f"{address}?{urlencode(given)}" if given else address

    def _credential(self, address: str) -> dict[str, str]:
        ours = urlsplit(self.base_url)
        there = urlsplit(address)
        same = (ours.scheme, ours.netloc) == (there.scheme, there.netloc) and "/api/" in there.path
        return {"Authorization": f"Bearer {self.api_key}"} if same else {}


def pause(attempt: int, retry_after: float | None) -> float:
    """Return the seconds before the next try: what the server asks for, else 0.5, 1, 2, ... with jitter."""
    if retry_after is not None:
        return min(retry_after, LONGEST_WAIT)
    return min(0.5 * 2.0**attempt, LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _document(answer: Answer) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
