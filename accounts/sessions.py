"""End sessions so that their open pages notice at once, and say in words what device a session is on."""

from __future__ import annotations

import re
from collections.abc import Iterable

from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession
from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from core.realtime.access import tell_access_changed

# Set at login: only such sessions have a row that says when they were last seen.
TRACKED = "tracked"

# The first that fits; Edge and Opera also call themselves Chrome, and Chrome calls itself Safari.
_BROWSERS = (
    ("Edge", r"Edg(?:e|A|iOS)?/"),
    ("Opera", r"OPR/"),
    ("Samsung Internet", r"SamsungBrowser/"),
    ("WeChat", r"MicroMessenger/"),
    ("Firefox", r"(?:Firefox|FxiOS)/"),
    ("Chrome", r"(?:Chrome|CriOS|HeadlessChrome)/"),
    ("Safari", r"Version/[\d.]+.* Safari/"),
)
_SYSTEMS = (
    ("Windows", r"Windows NT"),
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Android", r"Android"),
    ("macOS", r"Mac OS X|Macintosh"),
    ("ChromeOS", r"CrOS"),
    ("Linux", r"Linux|X11"),
)
_IN_THE_HAND = ("iPhone", "iPad", "Android")


def device(user_agent: str) -> str:
    """Return a browser and its system in words, "Firefox on Windows"."""
    browser, system = _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or user_agent.split("/")[0][:40] or _("Unknown browser")


def device_icon(user_agent: str) -> str:
    """Return the icon of what the browser runs on."""
    return "smartphone" if _first(_SYSTEMS, user_agent) in _IN_THE_HAND else "monitor"


def _first(names: Iterable[tuple[str, str]], user_agent: str) -> str:
    return next((name for name, pattern in names if re.search(pattern, user_agent)), "")


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]
    """End sessions together with the live connections of their pages."""

    def end_sessions(self, sessions: Iterable[UserSession]) -> None:
        super().end_sessions(sessions)
        transaction.on_commit(tell_access_changed, robust=True)


def end_sessions_of(person: User, *, keep: str | None = None) -> int:
    """End the sessions of `person`, except the one with the key `keep`; return how many ended."""
    sessions = list(UserSession.objects.filter(user=person).exclude(session_key=keep or ""))
    SessionsAdapter().end_sessions(sessions)
    return len(sessions)
