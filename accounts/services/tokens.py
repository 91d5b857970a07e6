"""Tokens (JWT) of a person in one team: a short one to act with, and a refresh token that is good for one use.

All tokens of one login are a family, whose row in the outstanding list outlives the single tokens. Using a refresh
token twice, or revoking it, ends the family and with it every access token at once. Nothing a token says about rights
is believed: the person, their role and the team are looked up at each request.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts.access import check_second_factor
from accounts.actor import Actor, member_actor
from accounts.models import Membership, User
from accounts.services.audit import audit
from core.realtime.access import tell_access_changed

# Two requests of one program may refresh at the same moment: the second is refused, and nobody is logged out.
_TWICE_WITHIN = timedelta(seconds=10)
_SESSION_HASH_LENGTH = 24


@dataclass(frozen=True, slots=True)
class Tokens:
    """Hold a pair of tokens as text, and how many seconds each is good for."""

    access: str
    refresh: str
    access_seconds: int
    refresh_seconds: int


class _Renewal(RefreshToken):
    def check_blacklist(self) -> None:
        """Leave it to `renew_tokens`, which asks under the token's lock."""


def issue_tokens(*, actor: Actor) -> Tokens:
    """Begin a new family for the actor's person in the actor's team."""
    with transaction.atomic():
        family = uuid.uuid4().hex
        _note(actor.user, family, timezone.now() + _lifetime("REFRESH_TOKEN_LIFETIME"))
        tokens = _pair(actor, family)
        audit(actor, "token.issued", actor.user)
    return tokens


def renew_tokens(text: str) -> tuple[Actor, Tokens] | None:
    """Return a new pair for a refresh token, which is used up by it; None if it is not good.

    A token that is used a second time later on was stolen, on one side or the other: its family ends.
    Raise TwoFactorRequired where the team asks for a second factor that the person lost.
    """
    token = _decoded(_Renewal, text)
    actor = _actor(token) if token is not None else None
    if token is None or actor is None:
        return None
    with transaction.atomic():
        row = OutstandingToken.objects.select_for_update(of=("self",)).filter(jti=token["jti"]).first()
        if row is None:
            return None
        used = BlacklistedToken.objects.filter(token=row).first()
        if used is None:
            BlacklistedToken.objects.create(token=row)
            OutstandingToken.objects.filter(jti=token["fam"]).update(
                expires_at=timezone.now() + _lifetime("REFRESH_TOKEN_LIFETIME")
            )
            return actor, _pair(actor, token["fam"])
        if used.blacklisted_at < timezone.now() - _TWICE_WITHIN:
            _end_family(token["fam"])
            audit(actor, "token.reused", actor.user)
        return None


def revoke_tokens(text: str) -> None:
    """End the family of a refresh token; nothing happens for a text that is none."""
    token = _decoded(_Renewal, text)
    if token is not None:
        with transaction.atomic():
            _end_family(token["fam"])


def actor_of_token(text: str) -> Actor | None:
    """Return the actor behind an access token, with what the person may do in the team now; None if it is not good."""
    token = _decoded(AccessToken, text)
    return _actor(token) if token is not None else None


def forget_expired_tokens() -> int:
    """Delete the rows of tokens and families that nobody can use any more; return how many."""
    count, _by_model = OutstandingToken.objects.filter(expires_at__lt=timezone.now()).delete()
    return count


def _pair(actor: Actor, family: str) -> Tokens:
    refresh = RefreshToken()
    claims = {
        "sub": actor.user.uid,
        "team": actor.team.uid,
        "fam": family,
        # Of the password: a new one ends every token.
        "psw": _password_mark(actor.user),
    }
    for name, value in claims.items():
        refresh[name] = value
    _note(actor.user, refresh["jti"], timezone.now() + _lifetime("REFRESH_TOKEN_LIFETIME"))
    return Tokens(
        access=str(refresh.access_token),
        refresh=str(refresh),
        access_seconds=int(_lifetime("ACCESS_TOKEN_LIFETIME").total_seconds()),
        refresh_seconds=int(_lifetime("REFRESH_TOKEN_LIFETIME").total_seconds()),
    )


def _note(user: User, jti: str, expires_at: datetime) -> None:
    # The text is not kept: who reads the database must not be able to log in.
    OutstandingToken.objects.create(
        user=user, jti=jti, token="", created_at=timezone.now(), expires_at=expires_at
    )


def _end_family(family: str) -> None:
    row = OutstandingToken.objects.filter(jti=family).first()
    if row is not None:
        BlacklistedToken.objects.get_or_create(token=row)
        transaction.on_commit(tell_access_changed, robust=True)


def _decoded(kind: type[Token], text: str) -> Any:
    """Return the token behind `text` if its signature, time, kind and family hold."""
    try:
        token = kind(text)  # type: ignore[arg-type]
    except (TokenError, TypeError, ValueError, OverflowError):
        return None
    if not all(isinstance(token.get(name), str) for name in ("sub", "team", "fam", "psw", "jti")):
        return None
    family = OutstandingToken.objects.filter(jti=token["fam"], blacklistedtoken=None)
    return token if family.exists() else None


def _actor(token: Any) -> Actor | None:
    membership = (
        Membership.objects.select_related("team", "user")
        .filter(
            user__uid=token["sub"],
            team__uid=token["team"],
            user__is_active=True,
            team__deleted_at=None,
        )
        .first()
    )
    if membership is None or not hmac.compare_digest(_password_mark(membership.user), token["psw"]):
        return None
    check_second_factor(membership.team, membership.user)
    return member_actor(membership.team, membership.user, membership.role)


def _password_mark(user: User) -> str:
    return user.get_session_auth_hash()[:_SESSION_HASH_LENGTH]


def _lifetime(name: str) -> timedelta:
    lifetime = settings.SIMPLE_JWT[name]
    assert isinstance(lifetime, timedelta)
    return lifetime
