"""Give every request an id that logs, errors and answers share."""

from __future__ import annotations

import contextvars
import re
import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

_SAFE = re.compile(r"[A-Za-z0-9_-]{8,64}\Z")


class RequestIdMiddleware:
    """Take a proxy's `X-Request-ID` if it is well formed, else make one; send it back."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        token = request_id.set(given if _SAFE.match(given) else f"req_{secrets.token_hex(10)}")
        try:
            response = self.get_response(request)
            response["X-Request-ID"] = request_id.get()
            return response
        finally:
            request_id.reset(token)
