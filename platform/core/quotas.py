"""What a team may use of what: each app registers its meters, the API lists them (`GET /limits`).

register(Meter("stored_bytes", limit=lambda: settings.TEAM_MAX_BYTES, used=stored_bytes))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accounts.models import Team


@dataclass(frozen=True, slots=True)
class Meter:
    """Name one quota. A limit of 0 means that there is none."""

    name: str
    limit: Callable[[], int]
    used: Callable[[Team], int]


_meters: dict[str, Meter] = {}


def register(meter: Meter) -> None:
    """Add a meter; the same name again replaces it."""
    _meters[meter.name] = meter


def meters() -> list[Meter]:
    """Return every meter by name."""
    return [_meters[name] for name in sorted(_meters)]
