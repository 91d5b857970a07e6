"""The OpenAPI document: every operation with all its statuses, its query string and its examples."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, inline_serializer

from core.api.errors import PROBLEM_TYPE
from core.api.serializers import Problem, Query, StrictSerializer

# What each status means wherever it is answered.
MEANINGS = {
    "400": "The request is malformed, or names a field or a filter that does not exist.",
    "401": "There is no valid credential.",
    "402": "The plan or the balance does not cover this.",
    "403": "The credential may not do this.",
    "404": "There is no such thing, or it is not yours.",
    "405": "This address does not know the method.",
    "406": "Only JSON is spoken here; `Accept` must allow it.",
    "409": "The thing is in a state in which this cannot be done, or the `Idempotency-Key` is in use.",
    "410": "The upload was given up or has expired.",
    "412": "The version of tus is not spoken here.",
    "413": "The body or the file is too large.",
    "415": "The body has a type that is not read here.",
    "422": "The request is well formed and cannot be carried out; `errors` says why.",
    "429": "Too many requests (`rate_limited`), or a quota is used up (`quota_exceeded`).",
    "460": "The bytes do not fit their checksum (tus).",
    "503": "Something needed for this is away; try again.",
}
_ALWAYS = ("400", "406", "429")
_AUTHENTICATED = ("401", "403", "404")
_WITH_BODY = ("413", "415", "422")
_CHANGING = ("409",)
_VERBS = {
    "list": "List {}s, the newest first.",
    "retrieve": "Return one {}.",
    "create": "Make a {}.",
    "partial_update": "Change a {}; what is left out stays.",
    "destroy": "Delete a {}.",
}


class ApiSchema(AutoSchema):
    """Document an action from its view: `queries`, `problems`, strict bodies."""

    def get_override_parameters(self) -> list[Any]:
        kind = getattr(self.view, "queries", {}).get(self._action(), Query)
        parameters: list[Any] = [kind] if kind().fields else []
        required = getattr(getattr(self.view, self._action(), None), "key_required", None)
        if required is not None:
            parameters.append(
                OpenApiParameter(
                    name="Idempotency-Key",
                    type=OpenApiTypes.STR,
                    location=OpenApiParameter.HEADER,
                    required=required,
                    description="Repeat a request with the same key within 24 hours to get the first answer again.",
                )
            )
        return parameters

    def get_description(self) -> str:  # type: ignore[override]  # as in AutoSchema itself
        text = getattr(getattr(self.view, self._action(), None), "__doc__", None) or ""
        if not text and self._action() in _VERBS:
            text = _VERBS[self._action()].format(self._noun())
        return " ".join(text.split("\n\n")[0].split()) + _rest(text)

    def _action(self) -> str:
        return getattr(self.view, "action", None) or ""

    def _noun(self) -> str:
        kind = getattr(self.view, "serializer_class", None)
        return str(getattr(kind, "object_name", "") or "row").replace("_", " ")

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        found = super()._get_response_bodies(direction)
        self.resolve_serializer(Problem, "response")
        for status in self._problem_statuses():
            found.setdefault(status, {"$ref": f"#/components/responses/Problem{status}"})
        return found

    def _problem_statuses(self) -> list[str]:
        statuses = {
            *_ALWAYS,
            *(str(each) for each in getattr(self.view, "problems", {}).get(self._action(), ())),
        }
        if self.view.get_authenticators():
            statuses |= {*_AUTHENTICATED}
        if self.method in {"POST", "PATCH", "PUT"}:
            statuses |= {*_WITH_BODY}
        if self.method in {"POST", "PATCH", "PUT", "DELETE"}:
            statuses |= {*_CHANGING}
        if self.get_override_parameters():
            statuses.add("422")
        return sorted(statuses)

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)
        if isinstance(serializer, StrictSerializer):
            schema["additionalProperties"] = False
        return schema


def _rest(text: str) -> str:
    """Return the further paragraphs of a docstring."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")[1:]]
    return "".join(f"\n\n{part}" for part in paragraphs if part)


def add_shared_parts(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add what all operations share: the answers with problem documents, and the headers of the rate limit."""
    headers = {
        "RateLimit-Policy": 'The limit: `"api";q=600;w=60` is 600 requests in 60 seconds.',
        "RateLimit": 'What is left: `"api";r=599;t=60` is 599 requests for the next 60 seconds.',
        "X-Request-ID": "The id of this request in our logs.",
    }
    components = result.setdefault("components", {})
    components["headers"] = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
    }
    components["headers"]["Retry-After"] = {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer"},
    }
    refs = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    used = set()
    for path in result["paths"].values():
        for operation in path.values():
            for status, response in operation.get("responses", {}).items():
                if "$ref" in response:
                    used.add(status)
                else:
                    response["headers"] = {**response.get("headers", {}), **refs}
                    response["description"] = response.get("description") or "Done."
    components["responses"] = {
        f"Problem{status}": {
            "description": MEANINGS[status],
            "headers": {
                **refs,
                **(
                    {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
                    if status in {"429", "503"}
                    else {}
                ),
            },
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(used)
    }
    return result


def shape(name: str, **fields: Any) -> Any:
    """Return a serializer made of `fields` for documenting an answer that has no model."""
    return inline_serializer(name, fields)
