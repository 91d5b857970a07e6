"""Hold every answer of the API that a test gets against docs/openapi.yaml.

A middleware (see config/testing.py) looks at each; the fixture `_contract` in tests/conftest.py fails the test that got
one with an undocumented status, type, member or header. Stricter than OpenAPI asks: objects may have no members that
the document does not name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from django.http import HttpRequest, HttpResponse

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
API = "/api/v1/"
PROBLEM = "application/problem+json"
# Answers of what stands before the API: an address that is not there or cannot be read, a method it has not.
_ANYWHERE = {"400", "404", "405"}

mismatches: list[str] = []
seen: set[tuple[str, str, str]] = set()


@cache
def document() -> dict[str, Any]:
    """Return the committed document."""
    found: dict[str, Any] = yaml.load(DOCUMENT.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


@cache
def _routes() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted(document()["paths"], key=lambda path: path.count("{"))
    return [
        (
            re.compile(
                re.sub(
                    r"\{\w+\}",
                    r"[a-z]+_[0-9a-z]{26}",
                    re.escape(path).replace(r"\{", "{").replace(r"\}", "}"),
                )
                + r"\Z"
            ),
            path,
        )
        for path in paths
    ]


def path_of(address: str) -> str | None:
    """Return the path of the document that `address` belongs to."""
    return next((path for pattern, path in _routes() if pattern.match(address)), None)


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have no members beyond those it names."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


@cache
def _components() -> dict[str, Any]:
    schemas = {
        name: schema if name == "Problem" else _closed(schema)
        for name, schema in document()["components"]["schemas"].items()
    }
    return {"schemas": schemas}


@cache
def _validator(path: str, method: str, status: str, kind: str) -> Any:
    schema = _responses(path, method)[status]["content"][kind]["schema"]
    return jsonschema_rs.validator_for(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **_closed(schema),
            "components": _components(),
        },
        validate_formats=True,
    )


@cache
def _responses(path: str, method: str) -> dict[str, Any]:
    shared = document()["components"]["responses"]
    found = document()["paths"][path][method]["responses"]
    return {
        status: shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
        for status, each in found.items()
    }


def complaint(request: HttpRequest, response: HttpResponse) -> str | None:
    """Return what is wrong with an answer, or None."""
    method, status = (request.method or "").lower(), str(response.status_code)
    path = path_of(request.path)
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if method == "head" and path is not None and "head" not in document()["paths"][path]:
        method = "get"  # the same without its body
    if path is None or method not in document()["paths"][path]:
        if method == "options" and status == "204":
            return None
        if status in {"401", "429", *_ANYWHERE} and kind == PROBLEM:
            return None
        return f"{status} {kind}, and the document has no such operation"
    responses = _responses(path, method)
    seen.add((path, method, status))
    if status not in responses:
        return f"status {status} is not in the document: {_body(response)[:300]!r}"
    content = responses[status].get("content")
    if request.method == "HEAD":
        return None  # the server leaves its body out
    if not content:
        return None if not _body(response) else f"a body ({kind}) where the document has none"
    if kind not in content:
        return f"type {kind!r} is not in the document for {status}"
    if not kind.endswith("json"):
        return None
    error = next(_validator(path, method, status, kind).iter_errors(json.loads(_body(response))), None)
    return f"{status}: {error.message} at {list(error.instance_path)}" if error is not None else None


def _body(response: HttpResponse) -> bytes:
    return b"" if response.streaming else response.content


class ContractMiddleware:
    """Note every answer of the API that is not as the document says."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith(API) and not request.path.endswith("openapi.yaml"):
            wrong = complaint(request, response)
            if wrong:
                mismatches.append(f"{request.method} {request.path}: {wrong}")
        return response
