"""What is kept how long: one table that the duties obey, the privacy page shows and SECURITY.md names.

An app adds its rows in `AppConfig.ready()`; each has the setting that changes it and the duty that carries it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.utils.functional import Promise


@dataclass(frozen=True, slots=True)
class Kept:
    """Say that something is kept for a while; None means until somebody deletes it."""

    what: str | Promise
    how_long: Callable[[], timedelta | None]
    note: str | Promise = ""


_kept: list[Kept] = []


def register_kept(*rows: Kept) -> None:
    """Add rows to the table; adding them again changes nothing."""
    _kept.extend(row for row in rows if row not in _kept)


def kept_for() -> list[tuple[str, int | None, str]]:
    """Return (what, days or None, note) in the active language."""
    rows = []
    for row in _kept:
        span = row.how_long()
        rows.append((str(row.what), span.days if span is not None else None, str(row.note)))
    return rows
