"""Mails about notifications: one at once, or a day's worth together."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from accounts.access import open_team_uids
from accounts.models import User
from notifications.kinds import MailWhen
from notifications.models import Notification
from notifications.services.mail import write_to

MOST_LINES = 30


def send_one(row: Notification) -> None:
    """Mail one notification; nothing goes out about a team the person left in the meantime."""
    if row.user.is_active and row.team_uid in open_team_uids(row.user):
        write_to(row.user, "notification", {"row": row, "url": settings.SITE_URL + row.path, **_links()})
    Notification.objects.filter(pk=row.pk).update(mailed_at=timezone.now())


def send_digest(person: User) -> bool:
    """Mail what is unread of all that waits for the digest; tell whether there was something."""
    mine = open_team_uids(person)
    waiting = Notification.objects.filter(user=person, mail=MailWhen.DAILY, mailed_at=None)
    rows = list(waiting.filter(read_at=None, team_uid__in=mine).order_by("-seq"))
    if rows:
        lines = [(row, settings.SITE_URL + row.path) for row in rows[:MOST_LINES]]
        context = {"lines": lines, "count": len(rows), "more": len(rows) - len(lines), **_links()}
        write_to(person, "digest", context)
    waiting.filter(seq__lte=rows[0].seq if rows else 2**31 - 1).update(mailed_at=timezone.now())
    return bool(rows)


def _links() -> dict[str, str]:
    return {
        "list_url": settings.SITE_URL + reverse("notifications:list"),
        "preferences_url": settings.SITE_URL + reverse("notifications:preferences"),
    }
