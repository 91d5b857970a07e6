"""What people do with their own list: read it, and choose how they hear of each kind."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from accounts.models import User
from core.errors import NotFound
from notifications.kinds import USUAL, Kind, MailWhen
from notifications.models import Notification, NotificationChoice


def mark_read(*, person: User, uid: str) -> Notification:
    """Mark one line of the person's list as read and return it; raise NotFound."""
    row = Notification.objects.filter(user=person, uid=uid).first()
    if row is None:
        raise NotFound
    Notification.objects.filter(pk=row.pk, read_at=None).update(read_at=timezone.now())
    return row


def mark_all_read(*, person: User) -> int:
    """Mark the whole list as read; return how many lines were not."""
    return Notification.objects.filter(user=person, read_at=None).update(read_at=timezone.now())


def choose(*, person: User, choices: Mapping[Kind, MailWhen]) -> None:
    """Remember when the person wants mail about each kind; what is usual needs no row."""
    with transaction.atomic():
        for kind, when in choices.items():
            if when == USUAL[kind]:
                NotificationChoice.objects.filter(user=person, kind=kind).delete()
            else:
                NotificationChoice.objects.update_or_create(user=person, kind=kind, defaults={"mail": when})
