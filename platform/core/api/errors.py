"""Problem documents (RFC 9457) for every error of the API."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions, status
from rest_framework.response import Response

from core.errors import DomainError, NotFound, QuotaExceeded
from core.http.middleware import request_id

PROBLEM_TYPE = "application/problem+json"

# The same request may succeed later by itself. A quota stays used up until somebody frees it.
_RETRYABLE = {425, 429, 500, 502, 503, 504}
_RETRYABLE_CODES = {"idempotency_key_in_flight"}


def problem(error: DomainError, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return the problem document of `error`."""
    if errors is None:
        errors = (
            [{"pointer": _pointer(error.pointer), "code": error.code, "detail": error.message}]
            if error.pointer
            else []
        )
    extra = _printable(dict(error.extra))
    if "errors" in extra:
        errors = [{**row, "pointer": _pointer(row["pointer"])} for row in extra.pop("errors")]
    errors = _printable(errors)
    retryable = error.status in _RETRYABLE and not isinstance(error, QuotaExceeded)
    return {
        "type": "about:blank",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "code": error.code,
        "detail": _printable(error.message),
        "errors": errors,
        "request_id": request_id.get(),
        "retryable": retryable or error.code in _RETRYABLE_CODES,
        **extra,
    }


def refused(code: str, message: str, http_status: int, **extra: Any) -> DomainError:
    """Return a DomainError that is answered with `http_status`."""
    error = DomainError(code, message, **extra)
    error.status = http_status
    return error


def _printable(value: Any) -> Any:
    """Return `value` with nothing in its texts that UTF-8 cannot carry: halves of characters come back escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return value


def _pointer(text: str) -> str:
    return text if text.startswith("/") else f"/{text}"


def _field_errors(detail: Any, pointer: str = "") -> list[dict[str, str]]:
    """Flatten DRF's nested error details into JSON pointers (RFC 6901)."""
    if isinstance(detail, dict):
        rows = []
        for key, value in detail.items():
            step = str(key).replace("~", "~0").replace("/", "~1")
            rows.extend(_field_errors(value, pointer if key == "non_field_errors" else f"{pointer}/{step}"))
        return rows
    if isinstance(detail, list):
        rows = []
        for index, value in enumerate(detail):
            nested = isinstance(value, dict | list)
            rows.extend(_field_errors(value, f"{pointer}/{index}" if nested else pointer))
        return rows
    return [{"pointer": pointer or "/", "code": getattr(detail, "code", "invalid"), "detail": str(detail)}]


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer every exception of an API view with a problem document; None lets Django answer 500."""
    headers: dict[str, str] = {}
    errors: list[dict[str, str]] | None = None
    error = _translated(error)
    if isinstance(error, exceptions.ValidationError):
        errors = _field_errors(error.detail)
        domain = refused(
            "validation_failed", "Some fields are not valid; see errors.", _validation_status(errors)
        )
    elif isinstance(error, exceptions.APIException):
        code = error.default_code if isinstance(error.default_code, str) else "error"
        domain = refused(code, str(error.detail), error.status_code)
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
    elif isinstance(error, DomainError):
        domain = error
    else:
        return None
    if "retry_after" in domain.extra:
        headers["Retry-After"] = str(domain.extra["retry_after"])
    return Response(problem(domain, errors), status=domain.status, headers=headers, content_type=PROBLEM_TYPE)


def _translated(error: Exception) -> Exception:
    """Turn the errors of Django into ours; others stay themselves."""
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, DjangoPermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(error, RequestDataTooBig):
        return refused("body_too_large", "This body is larger than allowed.", 413)
    if isinstance(error, SuspiciousOperation | BadRequest | UnreadablePostError):
        return refused("bad_request", "This request cannot be understood.", 400)
    return error


def _validation_status(errors: list[dict[str, str]]) -> int:
    if any(row["code"] == "unknown_field" for row in errors):
        return status.HTTP_400_BAD_REQUEST
    return status.HTTP_422_UNPROCESSABLE_ENTITY
