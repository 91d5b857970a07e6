"""The credentials of the API: a team's key, a person's token, or a browser's session with `X-Team`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.access import actor_for
from accounts.actor import Actor
from accounts.models import User
from accounts.services.api_keys import actor_of_key
from accounts.services.tokens import actor_of_token
from core.api.errors import refused
from core.errors import DomainError
from core.http.address import address_of

TEAM_HEADER = "X-Team"


class ApiKeyAuthentication(BaseAuthentication):
    """Find the actor behind an API key. `request.auth` is the actor, `request.user` the key's maker."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        text = _bearer(request)
        if text is None or _looks_like_token(text):
            return None
        actor = actor_of_key(text, address_of(request._request))
        if actor is None:
            raise AuthenticationFailed("This API key is not valid, or it was revoked.")
        return actor.user, actor

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenAuthentication(BaseAuthentication):
    """Find the person behind an access token; role and membership are those of this moment."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        text = _bearer(request)
        if text is None or not _looks_like_token(text):
            return None
        actor = actor_of_token(text)
        if actor is None:
            raise AuthenticationFailed("This token is not valid any more. Renew it, or log in again.")
        return actor.user, actor

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TeamSessionAuthentication(BaseAuthentication):
    """Let pages of this site call the API with the browser's login: with `X-Team: <slug>` and Django's CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        slug = request.headers.get(TEAM_HEADER, "")
        user = getattr(request._request, "user", None)
        if not slug or user is None or not user.is_authenticated or "Authorization" in request.headers:
            return None
        reason = _CsrfCheck(_nothing).reason(request._request)
        if reason:
            raise refused("csrf_failed", f"Send the CSRF token of the page as X-CSRFToken. {reason}", 403)
        return user, actor_for(user, slug)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def actor_now(request: Request) -> Actor | None:
    """Return whom the credential of a request, whose answer is still under way, stands for by now; None for nobody."""
    django, text = request._request, _bearer(request)
    try:
        if text is not None:
            return actor_of_token(text) if _looks_like_token(text) else actor_of_key(text, address_of(django))
        # Whoever logged out, here or by ending the session from another device, follows nothing any more.
        session, person = django.session, django.user
        user = User.objects.filter(pk=person.pk, is_active=True).first() if person.pk else None
        if user is None or not session.session_key or not session.exists(session.session_key):
            return None
        return actor_for(user, request.headers.get(TEAM_HEADER, ""))
    except DomainError:
        return None


class _CsrfCheck(CsrfViewMiddleware):
    """Tell why a request fails the check of Django, instead of answering with a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason

    def reason(self, request: HttpRequest) -> str:
        self.process_request(request)
        return str(self.process_view(request, _nothing, (), {}) or "")


def _nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def _bearer(request: Request) -> str | None:
    """Return the credential of the Authorization header; None where there is no header."""
    header = get_authorization_header(request).split()
    if not header:
        return None
    if len(header) != 2 or header[0].lower() != b"bearer":
        raise AuthenticationFailed("Send `Authorization: Bearer lf_live_...`.")
    return str(header[1].decode("ascii", "replace"))


def _looks_like_token(text: str) -> bool:
    return text.count(".") == 2


class HasActor(BasePermission):
    """Let only requests with a credential in; what it may do is checked by each view."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, Actor)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "lf_live_..."}


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class TeamSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = TeamSessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": TEAM_HEADER,
            "description": "The address of the team; the browser adds its session, and X-CSRFToken to changes.",
        }
