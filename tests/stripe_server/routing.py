"""Know which function answers which request, and which parameters it understands."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.stripe_server.account import Account
from tests.stripe_server.errors import StripeError, invalid
from tests.stripe_server.forms import Obj

LISTING = "limit starting_after ending_before created"


@dataclass(frozen=True)
class Page:
    """Hold an answer for a browser."""

    content: str | bytes
    status: int = 200
    kind: str = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Redirect:
    url: str


Answer = Obj | Page | Redirect
Handler = Callable[..., Answer]


@dataclass
class Call:
    """Hold one request: the account it is about and its parameters."""

    account: Account
    path: str
    params: Obj = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    accepts: frozenset[str] | None  # None: anything, for pages
    handler: Handler


_ROUTES: list[Route] = []


def route(request: str, accepts: str | None = "") -> Callable[[Handler], Handler]:
    """Register a handler for "METHOD /path/{id}"; it gets the call and the path's ids.

    Every parameter must be named in `accepts`: one that would be ignored here in silence is refused,
    since a test that passes for that reason proves nothing.
    """
    method, path = request.split(" ")
    pattern = re.compile(re.sub(r"\{\w+\}", r"([^/]+)", path) + "$")
    names = None if accepts is None else frozenset([*accepts.split(), "expand"])

    def register(handler: Handler) -> Handler:
        _ROUTES.append(Route(method, pattern, names, handler))
        return handler

    return register


def answer(method: str, call: Call) -> Answer:
    """Return what the first matching handler says; 404 where there is none."""
    for known in _ROUTES:
        if known.method == method and (found := known.pattern.match(call.path)):
            if known.accepts is not None and (unknown := call.params.keys() - known.accepts):
                name = sorted(unknown)[0]
                raise invalid(f"Received unknown parameter: {name}", name, "parameter_unknown")
            return known.handler(call, *found.groups())
    message = f"Unrecognized request URL ({method}: {call.path})."
    raise StripeError(404, "invalid_request_error", message)
