"""Secrets and signatures of Standard Webhooks 1.0: `whsec_` secrets, `v1,<base64 HMAC-SHA256 of id.timestamp.body>`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

PREFIX = "whsec_"
_BYTES = 32  # the specification asks for 24 to 64


def new_secret() -> str:
    """Return a new secret as its owner sees it once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def signature_headers(uid: str, timestamp: int, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """Return the three headers; one signature for each secret in `keys`, so that old and new both verify."""
    signed = f"{uid}.{timestamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(_raw(key), signed, hashlib.sha256).digest()).decode()
        for key in keys
    ]
    return {
        "webhook-id": uid,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def seal(secret: str) -> str:
    """Return `secret` encrypted for the database."""
    return _box((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)).encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Return what `seal` encrypted; raise ValueError if SECRET_KEY was changed without a fallback."""
    try:
        return _box((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise ValueError("the secret was sealed with another SECRET_KEY: rotate it") from None


@lru_cache(maxsize=4)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet(
        [
            Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"webhook secrets:" + k.encode()).digest()))
            for k in keys
        ]
    )


def _raw(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))
