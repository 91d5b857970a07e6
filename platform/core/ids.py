"""Public ids: a short prefix that tells the kind, then a time-ordered random part.

The same string is the row's `uid`, the id in the API and the id in the page's address (`trn_01jd...`).
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from django.db import models

# Crockford base 32 in lower case: no i, l, o, u, so that an id can be read aloud.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def encode_base32(number: int, length: int) -> str:
    """Return `number` as `length` characters of Crockford base 32, most significant first."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def new_uid(prefix: str) -> str:
    """Return a new id such as `trn_01jd3v7k2m...`: 48 bits of milliseconds, then 80 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{encode_base32(milliseconds, 10)}{encode_base32(secrets.randbits(80), 16)}"


class UidField(models.CharField):  # type: ignore[type-arg]
    """Store a public id with a fixed prefix; unique, made at creation, never edited."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        kwargs.update(max_length=40, unique=True, editable=False)
        super().__init__(**kwargs)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, path, _, kwargs = super().deconstruct()
        for key in ("max_length", "unique", "editable"):
            kwargs.pop(key, None)
        return name, path, [self.prefix], kwargs

    def get_default(self) -> str:
        return new_uid(self.prefix)

    def has_default(self) -> bool:
        return True


class UidConverter:
    """Match a public id in an address (`<uid:uid>`); anything else is not found without asking the database."""

    regex = "[a-z]+_[0-9a-z]{26}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value
