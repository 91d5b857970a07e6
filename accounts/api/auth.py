"""The credential of the API: `Authorization: Bearer lf_live_...`."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.actor import Actor
from accounts.services.api_keys import actor_of_key


class ApiKeyAuthentication(BaseAuthentication):
    """Find the actor behind an API key. `request.auth` is the actor, `request.user` the key's maker."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        header = get_authorization_header(request).split()
        if not header:
            return None
        if len(header) != 2 or header[0].lower() != b"bearer":
            raise AuthenticationFailed("Send `Authorization: Bearer lf_live_...`.")
        actor = actor_of_key(
            header[1].decode("ascii", "replace"), get_adapter().get_client_ip(request._request)
        )
        if actor is None:
            raise AuthenticationFailed("This API key is not valid, or it was revoked.")
        return actor.user, actor

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasActor(BasePermission):
    """Let only requests with a credential in; what it may do is checked by each view."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, Actor)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "lf_live_..."}
