"""What the frame of every page shows of a person's list."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import RequestContext

from accounts.models import User
from notifications.selectors import bell_of

register = template.Library()


@register.simple_tag(takes_context=True)
def bell(context: RequestContext) -> dict[str, Any]:
    """Return how many lines are unread, and the number after which new ones come."""
    person = context.get("user")
    unread, last = bell_of(person) if isinstance(person, User) else (0, 0)
    return {"unread": unread, "last": last}
