"""Problem documents (RFC 9457) for every error of the API."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response

from core.errors import DomainError, NotFound
from core.http.middleware import request_id

_RETRYABLE = {409, 425, 429, 500, 502, 503, 504}


def problem(error: DomainError, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return the problem document of `error`."""
    if errors is None:
        errors = (
            [{"pointer": error.pointer, "code": error.code, "detail": error.message}] if error.pointer else []
        )
    return {
        "type": "about:blank",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "code": error.code,
        "detail": error.message,
        "errors": errors,
        "request_id": request_id.get(),
        "retryable": error.status in _RETRYABLE,
        **error.extra,
    }


def _field_errors(detail: Any, pointer: str = "") -> list[dict[str, str]]:
    """Flatten DRF's nested error details into pointers."""
    if isinstance(detail, dict):
        return [row for key, value in detail.items() for row in _field_errors(value, f"{pointer}/{key}")]
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
    if isinstance(error, Http404):
        error = NotFound()
    elif isinstance(error, DjangoPermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, exceptions.APIException):
        code = error.default_code if isinstance(error.default_code, str) else "error"
        if isinstance(error, exceptions.ValidationError):
            errors = _field_errors(error.detail)
            domain = DomainError("validation_failed", "Some fields are not valid; see errors.")
            domain.status = (
                status.HTTP_400_BAD_REQUEST
                if any(row["code"] == "unknown_field" for row in errors)
                else status.HTTP_422_UNPROCESSABLE_ENTITY
            )
        else:
            domain = DomainError(code, str(error.detail))
            domain.status = error.status_code
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
        if getattr(error, "wait", None):
            headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]
    elif isinstance(error, DomainError):
        domain = error
    else:
        return None
    return Response(
        problem(domain, errors),
        status=domain.status,
        headers=headers,
        content_type="application/problem+json",
    )
