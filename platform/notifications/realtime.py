"""The live topic of a person's list: `inbox:<user uid>`, for that person alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import override

from accounts.access import open_team_uids
from accounts.models import User
from core.realtime.topics import Items, TopicKind
from notifications.models import Inbox, Notification


def topic_of(person: User) -> str:
    """Return the name of a person's topic."""
    return f"inbox:{person.uid}"


def item_of(row: Notification, language: str) -> dict[str, Any]:
    """Return a notification as the browser gets it, in the person's language."""
    at = row.created_at.isoformat().replace("+00:00", "Z")
    with override(language):
        data = {"id": row.uid, "title": row.title, "state": row.state, "path": row.path}
    return {"seq": row.seq, "type": "notification", "at": at, "data": data}


def without_words(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item that only fills its number: of a team that is closed to the person."""
    return {**item, "type": "gone", "data": {}}


def may_read(user: Any, uid: str) -> bool:
    """Tell whether `user` is the person whose list it is."""
    return bool(user.is_authenticated and user.is_active and user.uid == uid)


def events_after(uid: str, after: int, limit: int) -> Items:
    """Return what came into the list after number `after`; of teams the person left, the number alone."""
    person = User.objects.filter(uid=uid).first()
    if person is None:
        return []
    mine = open_team_uids(person)
    rows = Notification.objects.filter(user=person, seq__gt=after).order_by("seq")[:limit]
    items = []
    for row in rows:
        item = item_of(row, person.language)
        items.append(item if row.team_uid in mine else without_words(item))
    return items


def heads(uids: Iterable[str]) -> dict[str, int]:
    """Return the last number of each person's list."""
    rows = Inbox.objects.filter(user__uid__in=list(uids)).values_list("user__uid", "last_seq")
    return dict(rows)


INBOX_TOPIC = TopicKind(may_read=may_read, events_after=events_after, heads=heads)
