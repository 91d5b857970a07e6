"""Send webhooks the way the worker and the clock do, without waiting for either."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone

from accounts.actor import Actor
from core.models import OutboxMessage
from notifications.duties import send_due_webhooks
from notifications.events import EventType, Subject
from notifications.models import Delivery, DeliveryAttempt, WebhookEndpoint, WebhookEvent
from notifications.services.webhooks import NewSecret, create_endpoint, emit
from notifications.tasks import deliver_webhook
from tests.notifications.receivers import Receiver


class Sender:
    """A team that sends webhooks."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    def endpoint(self, receiver: Receiver, **values: Any) -> NewSecret:
        """Make an endpoint at the receiver, which then checks every signature."""
        made = create_endpoint(actor=self.actor, url=receiver.url, **values)
        receiver.secret = made.text
        return made

    def emit(self, kind: EventType = EventType.TRAINING_SUCCEEDED, name: str = "Kael") -> None:
        emit(self.actor.team, kind, Subject("trn_1", "training", name, "/t/atelier/trainings/trn_1/"))

    def work(self) -> int:
        """Do what the worker has to do now; return how many jobs there were."""
        rows = list(OutboxMessage.objects.filter(done_at=None, actor="deliver_webhook").order_by("pk"))
        for row in rows:
            deliver_webhook(row.pk, row.subject_uid)
        return len(rows)

    def pass_time(self, span: timedelta) -> None:
        """Let `span` go by: everything that is stored happened that much earlier. Then the clock ticks."""
        for rows, names in (
            (Delivery.objects.for_team(self.actor.team), ("created_at", "next_try_at", "delivered_at")),
            (
                WebhookEndpoint.objects.for_team(self.actor.team),
                ("failing_since", "resume_at", "old_secret_until"),
            ),
            (WebhookEvent.objects.for_team(self.actor.team), ("created_at",)),
            (DeliveryAttempt.objects.for_team(self.actor.team), ("created_at",)),
        ):
            rows.update(**{name: F(name) - span for name in names})
        send_due_webhooks()

    def wait_for_next(self) -> timedelta:
        """Go to the next try and return how long it takes from now."""
        at = self.delivery.next_try_at
        assert at is not None
        span = at - timezone.now()
        self.pass_time(span + timedelta(milliseconds=1))
        return span

    @property
    def delivery(self) -> Delivery:
        """Return the newest delivery."""
        found: Delivery = (
            Delivery.objects.for_team(self.actor.team).select_related("endpoint", "event").order_by("-uid")[0]
        )
        return found

    @property
    def attempts(self) -> list[DeliveryAttempt]:
        """Return the tries of the newest delivery."""
        return list(DeliveryAttempt.objects.for_team(self.actor.team).filter(delivery=self.delivery))
