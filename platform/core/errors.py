"""Domain errors: what services raise, and pages and the API turn into an answer."""

from __future__ import annotations

from typing import Any


class DomainError(Exception):
    """Say that a request cannot be done, with a stable code and a message that tells what to do next.

    `status` is the HTTP status the edge answers with; `pointer` names the field (`spec/training/steps`);
    `extra` goes into the problem document as it is (for instance quota, limit, used).
    """

    status = 422

    def __init__(self, code: str, message: str, *, pointer: str | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = str(message)
        self.pointer = pointer
        self.extra = extra


class NotFound(DomainError):
    """Say that the thing is not there, or not yours: the two must look alike."""

    status = 404

    def __init__(self, code: str = "not_found", message: str = "Not found.") -> None:
        super().__init__(code, message)


class PermissionDenied(DomainError):
    """Say that a member of this team may not do this."""

    status = 403

    def __init__(self, message: str, *, permission: str) -> None:
        super().__init__("permission_denied", message, permission=permission)


class Conflict(DomainError):
    """Say that the thing is in a state in which this cannot be done."""

    status = 409


class QuotaExceeded(DomainError):
    """Say that a limit is reached; `extra` carries quota, limit and used."""

    status = 429


class TooLarge(DomainError):
    """Say that what was sent is larger than allowed."""

    status = 413
