"""Refuse bodies that are too large before they are taken: Django spools a whole body to disk before any view."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where files come in; everything else is a form or a JSON document.
_FILES = re.compile(r"/(api/v1/uploads|t/[^/]+/(datasets/[^/]+/)?uploads)(/|\Z)")
_BODY = json.dumps(
    {
        "type": "about:blank",
        "title": "Too large",
        "status": 413,
        "code": "body_too_large",
        "detail": "This request is larger than is taken here.",
        "errors": [],
        "request_id": "",
        "retryable": False,
    }
).encode()


class BodyLimit:
    """Answer 413 to a body whose announced length is too large, and cut one off that grows too large unannounced.

    Files may be large only where files come in, and only for who brings a credential (a key, a token or a session).
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        limit = _limit(str(scope["path"]), headers)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            await _refuse(send)
            return
        taken = 0

        async def counted() -> Mapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message if taken <= limit else {"type": "http.disconnect"}

        await self.app(scope, counted, send)


def _limit(path: str, headers: dict[bytes, bytes]) -> int:
    cookie = settings.SESSION_COOKIE_NAME.encode() + b"="
    known = b"authorization" in headers or cookie in headers.get(b"cookie", b"")
    if known and _FILES.match(path):
        # The parts of a form come on top of the file.
        return int(settings.UPLOAD_MAX_BYTES) + 1024**2
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(_BODY)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})
