"""Callers of the API for tests: with a key, with a token, with a browser's session."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from accounts.actor import Actor
from accounts.roles import KEY_SCOPES, KEY_SCOPES_MORE, Can
from accounts.services.api_keys import create_api_key
from accounts.services.tokens import issue_tokens

API = "/api/v1"
PASSWORD = "correct horse"


def with_key(actor: Actor, *, scopes: tuple[Can, ...] | None = None, **fields: Any) -> APIClient:
    """Return a client with a fresh key; with every scope its maker can give unless told otherwise."""
    held = tuple(scope for scope in KEY_SCOPES + KEY_SCOPES_MORE if actor.can(scope))
    key = create_api_key(actor=actor, name="test", scopes=held if scopes is None else scopes, **fields)
    return bearer(key.text)


def with_token(actor: Actor) -> APIClient:
    """Return a client with a person's access token."""
    return bearer(issue_tokens(actor=actor).access)


def with_session(actor: Actor, **options: Any) -> APIClient:
    """Return a browser of the person that names the team; without CSRF checks unless asked for."""
    client = APIClient(**options)
    client.force_login(actor.user)
    client.credentials(HTTP_X_TEAM=actor.team.slug)
    return client


def bearer(text: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def log_in(actor: Actor, **changes: Any) -> Any:
    """Ask for tokens with the person's password."""
    body = {"email": actor.user.email, "password": PASSWORD, "team": actor.team.slug, **changes}
    return APIClient().post(f"{API}/auth/token", body, format="json")
