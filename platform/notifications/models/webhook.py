"""Outgoing webhooks: where a team wants to be told, what was told, and each try to do so."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel
from notifications.events import EventType

ANSWER_KEPT = 2048  # bytes of an answer that the log shows


class EndpointKind(models.TextChoices):
    STANDARD = "standard", _("Program (Standard Webhooks)")
    SLACK = "slack", _("Slack channel, or what understands its format")
    DISCORD = "discord", _("Discord channel")


class DisabledWhy(models.TextChoices):
    PERSON = "person", _("Switched off by a member")
    GONE = "gone", _("The receiver answered that it is gone (410)")
    FAILING = "failing", _("Every message failed for three days")


class WebhookEndpoint(TenantModel):
    """An address that is told about events. Secrets are sealed: signing needs them back, readers of a dump do not."""

    uid = UidField("whk")
    url = models.CharField(_("address"), max_length=500)
    kind = models.CharField(
        _("kind"), max_length=10, choices=EndpointKind.choices, default=EndpointKind.STANDARD
    )
    description = models.CharField(_("description"), max_length=120, blank=True)
    # None of them means all.
    event_types = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    secret = models.TextField()
    # Still signed with until then, so that a receiver can change over without losing a message.
    old_secret = models.TextField(blank=True)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    enabled = models.BooleanField(_("switched on"), default=True)
    disabled_why = models.CharField(max_length=10, choices=DisabledWhy.choices, blank=True)
    # The breaker: how often in a row it failed, since when, and until when nothing is sent.
    failures = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    resume_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("notifications_webhookendpoint"),
            models.CheckConstraint(
                condition=Q(kind__in=EndpointKind.values), name="notifications_webhookendpoint_kind"
            ),
            models.CheckConstraint(
                condition=Q(enabled=True, disabled_why="") | (Q(enabled=False) & ~Q(disabled_why="")),
                name="notifications_webhookendpoint_why",
            ),
        ]

    def __str__(self) -> str:
        return self.description or self.host

    @property
    def host(self) -> str:
        """Give the host alone: the rest of an address may be a secret (Slack, Discord)."""
        return urlsplit(self.url).hostname or ""

    @property
    def words_in(self) -> str:
        """Give the language of chat messages and of the log: that of who made the webhook."""
        return self.created_by.language if self.created_by else settings.LANGUAGE_CODE

    @property
    def has_two_secrets(self) -> bool:
        """Tell whether the secret before the last rotation is still signed with."""
        return bool(self.old_secret) and (self.old_secret_until or timezone.now()) > timezone.now()


class WebhookEvent(TenantModel):
    """One thing that happened. `body` is text: every try sends the same bytes under the same id."""

    uid = UidField("evt")
    type = models.CharField(max_length=40, choices=EventType.choices)
    body = models.TextField()
    subject_uid = models.CharField(max_length=40)
    subject_name = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=200, blank=True)

    class Meta(TenantModel.Meta):
        constraints = tenant_constraints("notifications_webhookevent")
        indexes = [models.Index(fields=["created_at"], name="notifications_event_age")]

    def __str__(self) -> str:
        return f"{self.type} {self.subject_uid}"


class DeliveryState(models.TextChoices):
    PENDING = "pending", _("On its way")
    DELIVERED = "delivered", _("Delivered")
    FAILED = "failed", _("Given up")


class Delivery(TenantModel):
    """One event on its way to one endpoint.

    While it is pending, `next_try_at` says when the clock hands it to the outbox; empty means that the outbox has it.
    """

    uid = UidField("dlv")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    # `attempts` counts them all, `tries` those since it was last begun or replayed: the schedule follows it.
    attempts = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("notifications_delivery", "endpoint", "event"),
            models.UniqueConstraint(fields=["event", "endpoint"], name="notifications_delivery_once"),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=Q(state="pending", next_try_at__isnull=False),
                name="notifications_delivery_due",
            ),
            models.Index(fields=["endpoint", "-uid"], name="notifications_delivery_log"),
        ]

    def __str__(self) -> str:
        return f"{self.uid} {self.state}"


class DeliveryAttempt(TenantModel):
    """One request and what came back: the status, the first bytes of the answer, or why there was none."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="log")
    number = models.PositiveIntegerField()
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True)
    error = models.CharField(max_length=300, blank=True)
    duration_ms = models.PositiveIntegerField(default=0)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("notifications_deliveryattempt", "delivery"),
            models.UniqueConstraint(fields=["delivery", "number"], name="notifications_attempt_once"),
        ]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.delivery_id} #{self.number}"
