"""Recurring duties of the notifications app: what the clock does for all teams and people alike."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import User
from core.outbox import enqueue
from core.periodic import every
from notifications.kinds import MailWhen
from notifications.models import Delivery, DeliveryState, Inbox, Notification, WebhookEndpoint, WebhookEvent
from notifications.tasks import deliver_webhook, mail_digest

LOG_KEPT_FOR = timedelta(days=30)
LISTS_KEPT_FOR = timedelta(days=180)
DIGEST_HOUR = 8  # on the clock of the person
_AT_ONCE = 500


@every(2)
def send_due_webhooks() -> int:
    """Hand every delivery whose time has come to the outbox, unless its endpoint rests; return how many."""
    now = timezone.now()
    with transaction.atomic():
        due = list(
            Delivery.unscoped.select_for_update(skip_locked=True, of=("self",))
            .filter(state=DeliveryState.PENDING, next_try_at__lte=now)
            .filter(Q(endpoint__resume_at=None) | Q(endpoint__resume_at__lte=now))
            .order_by("next_try_at")[:_AT_ONCE]
        )
        Delivery.unscoped.filter(pk__in=[row.pk for row in due]).update(next_try_at=None)
        for row in due:
            enqueue(deliver_webhook, row.uid)
    return len(due)


@every(600)
def begin_digests() -> int:
    """Begin the daily mail of everybody for whom it is morning and something waits; return how many."""
    now, begun = timezone.now(), 0
    waiting = Notification.objects.filter(mail=MailWhen.DAILY, mailed_at=None, read_at=None)
    for person in User.objects.filter(pk__in=waiting.values("user_id"), is_active=True).order_by("pk"):
        there = now.astimezone(_zone(person))
        if there.hour < DIGEST_HOUR:
            continue
        with transaction.atomic():
            inbox = Inbox.objects.filter(user=person).filter(
                Q(digest_on=None) | Q(digest_on__lt=there.date())
            )
            if inbox.update(digest_on=there.date()):
                enqueue(mail_digest, person.uid)
                begun += 1
    return begun


@every(3600)
def forget_old() -> None:
    """Delete the log of webhooks after a month, old secrets after their day, and lists after half a year."""
    now = timezone.now()
    old = WebhookEvent.unscoped.filter(created_at__lt=now - LOG_KEPT_FOR)
    # What is still on its way is younger than that: the schedule ends after three and a half days.
    WebhookEvent.unscoped.filter(pk__in=old.values("pk")[:5000]).delete()
    WebhookEndpoint.unscoped.filter(old_secret_until__lt=now).update(old_secret="", old_secret_until=None)
    Notification.objects.filter(
        created_at__lt=now - LISTS_KEPT_FOR, seq__lt=F("user__inbox__last_seq")
    ).delete()


def _zone(person: User) -> ZoneInfo:
    try:
        return ZoneInfo(person.time_zone)
    except (ValueError, OSError, KeyError):
        return ZoneInfo("UTC")
