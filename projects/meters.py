"""The quotas of the projects app."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from core.quotas import Meter, register
from projects.services.uploads import MAX_ITEMS, MAX_UNFINISHED, stored_bytes, unfinished_count


def register_meters() -> None:
    """Tell the list of quotas what this app counts."""
    register(
        Meter(
            "stored_bytes",
            _("Storage"),
            _("The storage of this team is full (%(used)s of %(limit)s). Delete pictures or models first."),
            used=stored_bytes,
            limit=lambda: settings.TEAM_MAX_BYTES,
            unit="bytes",
        )
    )
    register(
        Meter(
            "unfinished_uploads",
            _("Uploads on their way"),
            _("Too many uploads are on their way (%(used)s). Let some finish first."),
            used=unfinished_count,
            limit=lambda: MAX_UNFINISHED,
        )
    )
    register(
        Meter(
            "pictures_per_dataset",
            _("Pictures in a set"),
            _("A picture set holds at most %(limit)s pictures. Start another set for the rest."),
            limit=lambda: MAX_ITEMS,
        )
    )
