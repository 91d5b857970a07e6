"""Small tags and filters for the pages: icons, states, the frame, controls, times."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from django import forms, template
from django.conf import settings
from django.forms.boundfield import BoundField
from django.template.context import RequestContext
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()

# Every state of jobs, uploads, datasets and keys, as (tone, icon). Tones are colours in states.css.
STATES: dict[str, tuple[str, str]] = {
    "queued": ("queued", "clock"),
    "pending": ("queued", "clock"),
    "draft": ("queued", "pencil"),
    "starting": ("running", "loader-circle"),
    "running": ("running", "loader-circle"),
    "finalizing": ("running", "loader-circle"),
    "processing": ("running", "loader-circle"),
    "uploading": ("running", "loader-circle"),
    "receiving": ("running", "loader-circle"),
    "stopping": ("paused", "circle-pause"),
    "paused": ("paused", "circle-pause"),
    "warning": ("paused", "triangle-alert"),
    "succeeded": ("succeeded", "circle-check"),
    "done": ("succeeded", "circle-check"),
    "ready": ("succeeded", "circle-check"),
    "active": ("succeeded", "circle-check"),
    "verified": ("succeeded", "badge-check"),
    "success": ("succeeded", "circle-check"),
    "failed": ("failed", "circle-alert"),
    "rejected": ("failed", "circle-alert"),
    "error": ("failed", "circle-alert"),
    "canceled": ("canceled", "ban"),
    "revoked": ("canceled", "ban"),
    "expired": ("canceled", "ban"),
    "stopped": ("canceled", "circle-stop"),
    "archived": ("canceled", "archive"),
    "info": ("queued", "info"),
}


@lru_cache(maxsize=1)
def _drawings() -> dict[str, str]:
    """Read the icons that the front-end build left beside its bundle; none before the first build."""
    path = Path(str(settings.DJANGO_VITE["default"]["manifest_path"])).parent.parent / "icons.json"
    try:
        drawings: dict[str, str] = json.loads(path.read_text())
    except OSError:
        return {}
    return drawings


@register.simple_tag
def icon(name: str, css: str = "", label: str = "") -> SafeString:
    """Draw a Lucide icon; with `label` a screen reader says it, without one it is decoration."""
    spoken = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')
    return format_html(
        '<svg class="icon {}" width="18" height="18" viewBox="0 0 24 24" fill="none" stroke="currentColor" {}>{}</svg>',
        css,
        spoken,
        mark_safe(_drawings().get(name, "")),  # noqa: S308 - drawings come from our own build
    )


@register.filter
def tone(state: str) -> str:
    """Return the tone of a state, for `class="tone-..."`."""
    return STATES.get(str(state), ("queued", "info"))[0]


@register.filter
def state_icon(state: str) -> str:
    """Return the icon of a state."""
    return STATES.get(str(state), ("queued", "info"))[1]


@register.simple_tag(takes_context=True)
def theme(context: RequestContext) -> str:
    """Return the chosen theme: light, dark or system."""
    chosen = context["request"].COOKIES.get("theme", "") if "request" in context else ""
    return chosen if chosen in {"light", "dark"} else "system"


@register.simple_tag(takes_context=True)
def section(context: RequestContext) -> str:
    """Return the part of the product that the page belongs to: the rail marks it."""
    match = getattr(context.get("request"), "resolver_match", None)
    return section_of(match.view_name) if match else ""


def section_of(view_name: str) -> str:
    """Return the rail's section for a view name such as `projects:model_list`."""
    namespace, _colon, name = view_name.rpartition(":")
    if name == "home":
        return "home"
    if name.startswith(("model", "lora", "version_model", "evaluation")):
        return "models"
    if name.startswith("foundation"):
        return "foundations"
    if name.startswith("webhook"):
        return "settings"
    if name.startswith("profile"):
        return ""
    if name == "activity":
        return "activity"
    if name.startswith(("playground", "generation")):
        return "playground"
    if name.startswith("captioning"):
        return "projects"
    return {
        "projects": "projects",
        "training": "trainings",
        "accounts": "settings",
        "billing": "billing",
    }.get(namespace, "")


_CONTROLS: list[tuple[type[forms.Widget], str]] = [
    (forms.CheckboxInput, "checkbox"),
    (forms.RadioSelect, "radio"),
    (forms.Textarea, "textarea"),
    (forms.Select, "select"),
    (forms.ClearableFileInput, "file-input"),
    (forms.Widget, "input"),
]


@register.filter
def control(field: BoundField) -> SafeString:
    """Render a form field's control in the house style; help and errors are tied to it by id."""
    widget = field.field.widget
    css = next(name for kind, name in _CONTROLS if isinstance(widget, kind))
    attrs: dict[str, str | bool] = {"class": f"{css} {widget.attrs.get('class', '')}".strip()}
    # A placeholder that says the label again is noise.
    if str(field.label).casefold() in str(widget.attrs.get("placeholder", "")).casefold():
        attrs["placeholder"] = ""
    return field.as_widget(attrs=attrs)


@register.filter
def is_checkbox(field: BoundField) -> bool:
    """Tell whether the label of a field stands beside its control."""
    return isinstance(field.field.widget, forms.CheckboxInput)


@register.filter
def share(value: Any, most: Any) -> int:
    """Return `value` in percent of `most`, from 0 to 100."""
    try:
        return round(min(1.0, max(0.0, float(value) / float(most))) * 100)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0


@register.filter
def money(cents: Any) -> str:
    """Say an amount of US dollars that is given in cents: `$24`, `$0.50`."""
    try:
        whole = int(cents)
    except (TypeError, ValueError):
        return ""
    return f"${whole / 100:,.2f}".removesuffix(".00")


@register.filter
def duration(seconds: Any) -> str:
    """Say a time span in at most two units: `45 s`, `12 min`, `1 h 05 min`."""
    try:
        whole = max(0, round(float(seconds)))
    except (TypeError, ValueError):
        return ""
    if whole < 60:
        return _("%(n)s s") % {"n": whole}
    if whole < 3600:
        return _("%(n)s min") % {"n": round(whole / 60)}
    hours, rest = divmod(whole, 3600)
    if hours < 48 and not rest // 60:
        return _("%(n)s h") % {"n": hours}
    if hours < 48:
        return _("%(h)s h %(m)s min") % {"h": hours, "m": f"{rest // 60:02d}"}
    return ngettext("%(n)s day", "%(n)s days", hours // 24) % {"n": hours // 24}


@register.filter
def told(value: Any) -> str:
    """Say a plain value of the audit log in one line: `name: Kael, members: 3`."""
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {told(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(told, value))
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value)


@register.simple_tag
def when(moment: datetime | None) -> SafeString | str:
    """Say how long ago (or how soon) something is; the exact time is in the tooltip."""
    if moment is None:
        return ""
    now = timezone.now()
    if abs((now - moment).total_seconds()) < 60:
        words = _("just now")
    elif moment < now:
        words = _("%(span)s ago") % {"span": timesince(moment, now, depth=1)}
    else:
        words = _("in %(span)s") % {"span": timesince(now, moment, depth=1)}
    exact = date_format(timezone.localtime(moment), "DATETIME_FORMAT")
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, words)
