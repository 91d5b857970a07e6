"""Make, roll, check and revoke API keys.

A key reads `lf_live_<8 id><32 secret><6 checksum>`, or `lf_test_...`: the prefix lets secret scanners find it, the
checksum lets them (and us) tell a typing error from a real key without asking the database.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.access import check_second_factor
from accounts.actor import Actor, key_actor, require
from accounts.models import ApiKey, Membership
from accounts.roles import KEY_SCOPES, KEY_SCOPES_MORE, Can
from accounts.selectors import team_api_keys
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound, PermissionDenied
from core.realtime.access import tell_access_changed

_LIVE, _TEST = "lf_live_", "lf_test_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CRC_LENGTH = 8, 32, 6
_LENGTH = len(_LIVE) + _ID_LENGTH + _SECRET_LENGTH + _CRC_LENGTH
# A write per request would make every read of the API a write of the database.
_LAST_USED_EVERY = timedelta(minutes=1)
MOST_NETWORKS = 20
LONGEST_OVERLAP = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class NewKey:
    """Hold a fresh key: `text` is shown once and stored nowhere."""

    key: ApiKey
    text: str


def create_api_key(
    *,
    actor: Actor,
    name: str,
    scopes: Sequence[Can] = KEY_SCOPES,
    is_test: bool = False,
    expires_at: datetime | None = None,
    allowed_networks: Sequence[str] = (),
) -> NewKey:
    """Make a key for the actor's team; it never holds a scope its maker lacks. Raise DomainError for bad input."""
    require(actor, Can.API_KEYS)
    if not name.strip():
        raise DomainError(
            "name_missing", _("Give the key a name that says where it is used."), pointer="/name"
        )
    unfit = [scope for scope in scopes if scope not in KEY_SCOPES + KEY_SCOPES_MORE or not actor.can(scope)]
    if unfit or not scopes:
        raise DomainError(
            "scope_not_allowed", _("A key needs at least one right, and none you lack."), pointer="/scopes"
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise DomainError("expiry_past", _("The key would have expired already."), pointer="/expires_at")
    networks = _networks(allowed_networks)
    if actor.api_key is not None:
        _keep_within(actor.api_key, is_test, expires_at, networks)
    with transaction.atomic():
        new = _make(
            actor,
            name=name.strip()[:80],
            scopes=[scope.value for scope in scopes],
            is_test=is_test,
            expires_at=expires_at,
            allowed_networks=networks,
        )
        audit(actor, "api_key.created", new.key, after=_told(new.key))
    return new


def roll_api_key(*, actor: Actor, uid: str, overlap: timedelta) -> NewKey:
    """Make a key like this one; this one goes on for `overlap`, so that programs can change over.

    Raise Conflict for a key that is not valid any more or was rolled already.
    """
    require(actor, Can.API_KEYS)
    overlap = max(timedelta(0), min(overlap, LONGEST_OVERLAP))
    with transaction.atomic():
        key = team_api_keys(actor).select_for_update(of=("self",)).filter(uid=uid).first()
        if key is None:
            raise NotFound
        if key.created_by_id != actor.user.pk:
            raise PermissionDenied(
                _("Only the person who made a key can roll it: it acts for them."),
                permission=Can.API_KEYS.value,
            )
        now = timezone.now()
        if key.revoked_at or key.replaced_by_id or (key.expires_at and key.expires_at <= now):
            raise Conflict("key_ended", _("This key has ended or was rolled already. Make a new one."))
        held = {scope.value for scope in Can if actor.can(scope)}
        new = _make(
            actor,
            name=key.name,
            scopes=[scope for scope in key.scopes if scope in held],
            is_test=key.is_test,
            expires_at=key.expires_at,
            allowed_networks=key.allowed_networks,
        )
        ends = min(now + overlap, key.expires_at or now + overlap)
        ApiKey.objects.for_team(actor.team).filter(pk=key.pk).update(replaced_by=new.key, expires_at=ends)
        audit(actor, "api_key.rolled", key, after={"replaced_by": new.key.uid, "ends": ends.isoformat()})
    return new


def revoke_api_key(*, actor: Actor, uid: str) -> None:
    """Revoke a key at once; revoking it again changes nothing."""
    require(actor, Can.API_KEYS)
    key = team_api_keys(actor).filter(uid=uid).first()
    if key is None:
        raise NotFound
    with transaction.atomic():
        rows = ApiKey.objects.for_team(actor.team).filter(pk=key.pk, revoked_at=None)
        if rows.update(revoked_at=timezone.now()):
            audit(actor, "api_key.revoked", key, before=_told(key))
            transaction.on_commit(tell_access_changed, robust=True)


def actor_of_key(text: str, address: str = "") -> Actor | None:
    """Return the actor behind a key's full text, or None; takes note of its use from `address`.

    Raise PermissionDenied where the key is real and may not be used from there, or not without a second factor.
    """
    if not text.isascii() or len(text) != _LENGTH or not text.startswith((_LIVE, _TEST)):
        return None
    body, checksum = text[:-_CRC_LENGTH], text[-_CRC_LENGTH:]
    if checksum != _checksum(body):
        return None
    prefix, secret = body[:-_SECRET_LENGTH], body[-_SECRET_LENGTH:]
    # The prefix is what the caller proves to hold, and the team follows from it.
    key = (
        ApiKey.unscoped.select_related("team", "created_by")
        .filter(prefix=prefix, revoked_at=None, team__deleted_at=None, created_by__is_active=True)
        .first()
    )
    if key is None or not hmac.compare_digest(key.secret_hmac, _hmac(secret)):
        return None
    now = timezone.now()
    if key.expires_at and key.expires_at <= now:
        return None
    role = (
        Membership.objects.filter(team_id=key.team_id, user_id=key.created_by_id)
        .values_list("role", flat=True)
        .first()
    )
    if role is None:
        return None
    _check_address(key, address)
    check_second_factor(key.team, key.created_by)
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - _LAST_USED_EVERY)
    ApiKey.objects.for_team(key.team).filter(stale, pk=key.pk).update(
        last_used_at=now, last_used_from=address or None
    )
    return key_actor(key, role)


def _make(actor: Actor, *, is_test: bool, **fields: object) -> NewKey:
    prefix = (_TEST if is_test else _LIVE) + _random_text(_ID_LENGTH)
    secret = _random_text(_SECRET_LENGTH)
    key = ApiKey.objects.create(
        team=actor.team,
        prefix=prefix,
        secret_hmac=_hmac(secret),
        is_test=is_test,
        created_by=actor.user,
        **fields,
    )
    return NewKey(key=key, text=prefix + secret + _checksum(prefix + secret))


def _keep_within(maker: ApiKey, is_test: bool, expires_at: datetime | None, networks: list[str]) -> None:
    """Raise DomainError where a key would make another that outlives or outreaches it."""
    if maker.is_test and not is_test:
        raise DomainError("test_key", _("A test key makes test keys only."), pointer="/test")
    if maker.expires_at and (expires_at is None or expires_at > maker.expires_at):
        raise DomainError(
            "outlives_maker", _("A key cannot outlive the key that makes it."), pointer="/expires_at"
        )
    allowed = [ipaddress.ip_network(each) for each in maker.allowed_networks]
    wanted = [ipaddress.ip_network(each) for each in networks]
    if allowed and not (wanted and all(any(_is_within(each, one) for one in allowed) for each in wanted)):
        raise DomainError(
            "outreaches_maker",
            _("A key cannot be used from where the key that makes it cannot."),
            pointer="/allowed_networks",
        )


def _is_within(
    inner: ipaddress.IPv4Network | ipaddress.IPv6Network, outer: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _told(key: ApiKey) -> dict[str, object]:
    return {
        "scopes": key.scopes,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "allowed_networks": key.allowed_networks,
        "is_test": key.is_test,
    }


def _networks(given: Sequence[str]) -> list[str]:
    """Return networks in their plain form; raise DomainError for what is none."""
    if len(given) > MOST_NETWORKS:
        raise DomainError(
            "too_many_networks",
            _("At most %(n)s networks fit.") % {"n": MOST_NETWORKS},
            pointer="/allowed_networks",
        )
    try:
        return sorted({str(ipaddress.ip_network(text.strip(), strict=False)) for text in given})
    except ValueError as error:
        raise DomainError(
            "network_invalid",
            _("This is not an address or a network: %(error)s.") % {"error": error},
            pointer="/allowed_networks",
        ) from None


def _check_address(key: ApiKey, address: str) -> None:
    if not key.allowed_networks:
        return
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        caller = None
    if caller is None or not any(caller in ipaddress.ip_network(each) for each in key.allowed_networks):
        raise PermissionDenied(_("This key may not be used from your address."), permission="address")


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
