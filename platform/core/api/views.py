"""What every view of the API does: checks its query string, counts requests, answers only JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import viewsets
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.errors import refused
from core.api.serializers import Query
from core.api.throttling import Taken, take
from core.http.address import address_of


class ApiViewSet(viewsets.GenericViewSet[Any]):
    """A viewset that refuses unknown query parameters and requests too many.

    `queries` names the query string of an action (none: it has none), `binary` the actions that answer with
    something else than JSON, `buckets` those that are counted apart, `problems` the further statuses of an action.
    """

    queries: ClassVar[Mapping[str, type[Query]]] = {}
    binary: ClassVar[tuple[str, ...]] = ()
    buckets: ClassVar[Mapping[str, str]] = {}
    bucket: ClassVar[str] = "api"
    problems: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    query: dict[str, Any]
    taken: Taken | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.check_rights()
        if self.action:
            self.query = self._checked_query(request)

    def check_rights(self) -> None:
        """Raise where the credential may not do this; before its query is looked at."""

    def throttle_subject(self) -> str:
        """Return whose requests are counted together."""
        return f"ip:{self.client_address()}"

    def client_address(self) -> str:
        """Return the address of the caller, as the trusted proxies saw it."""
        return address_of(self.request._request)

    def check_throttles(self, request: Request) -> None:
        self._count(self.buckets.get(self.action or "", self.bucket), self.throttle_subject())

    def handle_exception(self, exc: Exception) -> Response:
        # Who has no valid credential is counted by address: guessing keys gets nowhere, and costs nobody else.
        if isinstance(exc, NotAuthenticated | AuthenticationFailed) and self.taken is None:
            try:
                self._count("anonymous", f"ip:{self.client_address()}")
            except Exception as limited:
                exc = limited
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if self.taken is not None:
            for name, value in self.taken.headers.items():
                response[name] = value
        return response

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        if self.action in self.binary:  # whatever type is asked for, the file has the one it has
            return JSONRenderer(), "application/json"
        return super().perform_content_negotiation(request, force)

    def _count(self, bucket: str, subject: str) -> None:
        self.taken = take(bucket, subject)
        if self.taken is not None and not self.taken.is_allowed:
            raise self.taken.refusal()

    def _checked_query(self, request: Request) -> dict[str, Any]:
        kind = self.queries.get(self.action or "", Query)
        known = sorted(kind().fields)
        given = request.query_params
        if unknown := sorted(set(given) - set(known)):
            told = f"Known: {', '.join(known)}." if known else "None is known here."
            raise refused("unknown_filter", f"There is no filter {unknown[0]!r}. {told}", 400, known=known)
        for name in given:
            if len(given.getlist(name)) > 1:
                raise refused("repeated_filter", f"Give {name!r} once.", 400, pointer=f"/{name}")
        checked = kind(data={name: given[name] for name in given})
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)
