"""The time zones that people may choose, as the machine's own list has them."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

# The rest of the list are old names and fixed offsets.
_REGIONS = {
    "Africa": gettext_lazy("Africa"),
    "America": gettext_lazy("America"),
    "Antarctica": gettext_lazy("Antarctica"),
    "Arctic": gettext_lazy("Arctic"),
    "Asia": gettext_lazy("Asia"),
    "Atlantic": gettext_lazy("Atlantic"),
    "Australia": gettext_lazy("Australia"),
    "Europe": gettext_lazy("Europe"),
    "Indian": gettext_lazy("Indian Ocean"),
    "Pacific": gettext_lazy("Pacific"),
}


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    return tuple(sorted(name for name in available_timezones() if name.partition("/")[0] in _REGIONS))


def is_time_zone(name: str) -> bool:
    """Tell whether people may choose `name`."""
    return name == "UTC" or name in _names()


def time_zone_choices() -> list[tuple[str, str | list[tuple[str, str]]]]:
    """Return the choices for a form, by region, each with its distance from UTC today."""
    now = timezone.now()
    regions: dict[str, list[tuple[str, str]]] = {region: [] for region in _REGIONS}
    for name in _names():
        region, _slash, place = name.partition("/")
        regions[region].append((name, f"{place.replace('_', ' ')} ({_distance(name, now)})"))
    return [("UTC", _("UTC")), *((str(_REGIONS[region]), places) for region, places in regions.items())]


def _distance(name: str, now: datetime) -> str:
    text = now.astimezone(ZoneInfo(name)).strftime("%z")
    return f"UTC{text[:3]}:{text[3:5]}"
