"""Exceptions for the problem documents (RFC 9457) of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RETRIED_WITHOUT_A_PROBLEM = frozenset({408, 425, 502, 503, 504})


@dataclass(frozen=True)
class FieldError:
    """Say what is wrong with one field: a JSON pointer, a stable code, a sentence."""

    pointer: str
    code: str
    detail: str


class Problem(Exception):
    """A request that the server refused. `extra` holds what this code brings along (`quota`, `limit`, `state`)."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.code = str(document.get("code", f"http_{status}"))
        self.detail = str(document.get("detail", ""))
        self.errors = [
            FieldError(str(row.get("pointer", "")), str(row.get("code", "")), str(row.get("detail", "")))
            for row in document.get("errors", [])
        ]
        self.request_id = str(document.get("request_id", ""))
        self.retryable = bool(document.get("retryable", status in RETRIED_WITHOUT_A_PROBLEM))
        self.retry_after = retry_after
        known = {"type", "title", "status", "code", "detail", "errors", "request_id", "retryable"}
        self.extra = {name: value for name, value in document.items() if name not in known}
        super().__init__(f"{status} {self.code}: {self.detail}")


class InvalidRequest(Problem):
    """The request is malformed or cannot be carried out (400, 413, 415, 422); `errors` names the fields."""


class NotAuthenticated(Problem):
    """The credential is missing, wrong or expired (401)."""


class PermissionDenied(Problem):
    """The credential may not do this (403)."""


class NotFound(Problem):
    """There is no such thing, or it is not yours (404, 410)."""


class Conflict(Problem):
    """The thing is in a state in which this cannot be done (409)."""


class RateLimited(Problem):
    """Too many requests (429); `retry_after` says how long to wait."""


class QuotaExceeded(Problem):
    """A quota of the team is used up (429); `extra` has `quota`, `limit` and `used`."""


class ServerError(Problem):
    """Something went wrong on the server's side (5xx)."""


class ConnectionFailed(Exception):
    """The server could not be reached, however often it was tried."""


class TrainingFailed(Exception):
    """A training that was waited for ended without weights; `training` is its last state."""

    def __init__(self, training: Any) -> None:
        self.training = training
        reason = training.error.message if training.error else training.status
        super().__init__(f"{training.id} ended as {training.status}: {reason}")


_BY_STATUS: dict[int, type[Problem]] = {
    401: NotAuthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    410: NotFound,
}


def problem_of(status: int, document: Mapping[str, Any], retry_after: float | None) -> Problem:
    """Return the exception for an answer."""
    kind: type[Problem]
    if status == 429:
        kind = RateLimited if document.get("code") == "rate_limited" else QuotaExceeded
    elif status >= 500:
        kind = ServerError
    else:
        kind = _BY_STATUS.get(status, InvalidRequest)
    return kind(status, document, retry_after)
