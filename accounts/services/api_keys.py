"""Make, check and revoke API keys.

A key reads `lf_live_<8 id><32 secret><6 checksum>`: the prefix lets secret scanners find it, the checksum lets
them (and us) tell a typing error from a real key without asking the database.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, key_actor, require
from accounts.models import ApiKey, Membership
from accounts.roles import KEY_SCOPES, Can
from accounts.services.audit import audit
from core.errors import DomainError, NotFound

_PREFIX = "lf_live_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CRC_LENGTH = 8, 32, 6
# A write per request would make every read of the API a write of the database.
_LAST_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class NewKey:
    """Hold a fresh key: `text` is shown once and stored nowhere."""

    key: ApiKey
    text: str


def create_api_key(*, actor: Actor, name: str, scopes: Sequence[Can] = KEY_SCOPES) -> NewKey:
    """Make a key for the actor's team; it never holds a scope its maker lacks."""
    require(actor, Can.API_KEYS)
    if not name.strip():
        raise DomainError(
            "name_missing", _("Give the key a name that says where it is used."), pointer="/name"
        )
    too_much = [scope for scope in scopes if not actor.can(Can(scope))]
    if too_much or not scopes:
        raise DomainError("scope_not_allowed", _("A key needs at least one right, and none you lack."))
    identifier, secret = _random_text(_ID_LENGTH), _random_text(_SECRET_LENGTH)
    body = f"{_PREFIX}{identifier}{secret}"
    with transaction.atomic():
        key = ApiKey.objects.create(
            team=actor.team,
            name=name.strip()[:80],
            prefix=f"{_PREFIX}{identifier}",
            secret_hmac=_hmac(secret),
            scopes=[Can(scope).value for scope in scopes],
            created_by=actor.user,
        )
        audit(actor, "api_key.created", key, scopes=key.scopes)
    return NewKey(key=key, text=body + _checksum(body))


def revoke_api_key(*, actor: Actor, uid: str) -> None:
    """Revoke a key at once; revoking it again changes nothing."""
    require(actor, Can.API_KEYS)
    key = ApiKey.objects.for_team(actor.team).filter(uid=uid).first()
    if key is None:
        raise NotFound
    with transaction.atomic():
        if (
            ApiKey.objects.for_team(actor.team)
            .filter(pk=key.pk, revoked_at=None)
            .update(revoked_at=timezone.now())
        ):
            audit(actor, "api_key.revoked", key)


def actor_of_key(text: str) -> Actor | None:
    """Return the actor behind a key's full text, or None; takes note of its use."""
    length = len(_PREFIX) + _ID_LENGTH + _SECRET_LENGTH + _CRC_LENGTH
    if not text.isascii() or len(text) != length or not text.startswith(_PREFIX):
        return None
    body, checksum = text[:-_CRC_LENGTH], text[-_CRC_LENGTH:]
    if checksum != _checksum(body):
        return None
    prefix, secret = body[:-_SECRET_LENGTH], body[-_SECRET_LENGTH:]
    # The prefix is what the caller proves to hold, and the team follows from it.
    key = ApiKey.unscoped.select_related("team", "created_by").filter(prefix=prefix, revoked_at=None).first()
    if key is None or not hmac.compare_digest(key.secret_hmac, _hmac(secret)):
        return None
    role = (
        Membership.objects.filter(team_id=key.team_id, user_id=key.created_by_id)
        .values_list("role", flat=True)
        .first()
    )
    if role is None or not key.created_by.is_active:
        return None
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - _LAST_USED_EVERY)
    ApiKey.objects.for_team(key.team).filter(stale, pk=key.pk).update(last_used_at=now)
    return key_actor(key, role)


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _hmac(secret: str) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), secret.encode(), hashlib.sha256).hexdigest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), []
    for _position in range(_CRC_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
