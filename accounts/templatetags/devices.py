"""What a session's browser is called, for the list of sessions."""

from __future__ import annotations

from django import template

from accounts import sessions

register = template.Library()
register.filter("device", sessions.device)
register.filter("device_icon", sessions.device_icon)
