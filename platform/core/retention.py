"""What is kept how long: the table that the privacy page shows.

An app adds its rows in `AppConfig.ready()`, with the very constant, setting or plan that its duty obeys. A duty that
deletes files or rows which a team could miss reports it by the row's `key` (`accounts.services.retention`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils.functional import Promise

if TYPE_CHECKING:
    from accounts.models import Team


@dataclass(frozen=True, slots=True)
class Kept:
    """Say that something is kept for a while; None means until somebody deletes it."""

    key: str
    what: str | Promise
    how_long: Callable[[Team], timedelta | None]
    note: str | Promise = ""


_kept: dict[str, Kept] = {}


def register_kept(*rows: Kept) -> None:
    """Add rows to the table; adding them again changes nothing."""
    _kept.update({row.key: row for row in rows})


def kept_for(team: Team) -> list[tuple[str, int | None, str]]:
    """Return (what, days or None, note) for a team, in the active language."""
    rows = []
    for row in _kept.values():
        span = row.how_long(team)
        rows.append((str(row.what), span.days if span is not None else None, str(row.note)))
    return rows


def name_of(key: str) -> str:
    """Return what a key of the table stands for, in the active language."""
    return str(_kept[key].what) if key in _kept else key
