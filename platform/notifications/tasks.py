"""Short jobs of the notifications app, sent through the outbox."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from accounts.models import User
from core.outbox import short_job
from notifications.models import Delivery, DeliveryState, Notification


def _try_later(delivery_uid: str) -> None:
    # Something is wrong here, not with the receiver: nothing is lost, the clock begins again.
    rows = Delivery.unscoped.filter(uid=delivery_uid, state=DeliveryState.PENDING, next_try_at=None)
    rows.update(next_try_at=timezone.now() + timedelta(minutes=10))


@short_job(queue_name="webhooks", most_failures=5, time_limit=timedelta(minutes=1), give_up=_try_later)
def deliver_webhook(delivery_uid: str) -> None:
    """Send one message to one endpoint, once; the delivery's own row remembers when to try again."""
    from notifications.services.deliveries import try_delivery

    rows = Delivery.unscoped.select_related("team", "endpoint__team", "endpoint__created_by", "event")
    delivery = rows.filter(uid=delivery_uid, state=DeliveryState.PENDING, next_try_at=None).first()
    if delivery is not None:
        try_delivery(delivery)


@short_job(queue_name="mail", most_failures=8)
def mail_notification(notification_uid: str) -> None:
    """Write one notification to its person."""
    from notifications.services.digest import send_one

    row = Notification.objects.select_related("user").filter(uid=notification_uid, mailed_at=None).first()
    if row is not None:
        send_one(row)


@short_job(queue_name="mail", most_failures=8)
def mail_digest(user_uid: str) -> None:
    """Write what came together since the last digest."""
    from notifications.services.digest import send_digest

    person = User.objects.filter(uid=user_uid, is_active=True).first()
    if person is not None:
        send_digest(person)
