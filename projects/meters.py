"""The quotas of the projects app."""

from __future__ import annotations

from django.conf import settings

from core.quotas import Meter, register
from projects.services.uploads import MAX_UNFINISHED, stored_bytes, unfinished_count


def register_meters() -> None:
    """Tell the list of quotas what this app counts."""
    register(Meter("stored_bytes", limit=lambda: settings.TEAM_MAX_BYTES, used=stored_bytes))
    register(Meter("unfinished_uploads", limit=lambda: MAX_UNFINISHED, used=unfinished_count))
