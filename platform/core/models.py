"""Small tables of plumbing: the outbox, the idempotency keys, the runs of the clock's duties."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from core.tenancy.models import TenantModel


class OutboxMessage(models.Model):
    """A short job that must not be lost: written with the change that causes it, sent after the commit.

    The broker may lose a message; `tick` sends again what is neither done nor taken. Jobs bear being begun twice.
    """

    actor = models.CharField(max_length=100)
    subject_uid = models.CharField(max_length=40)
    sends = models.PositiveIntegerField(default=1)
    failures = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    taken_until = models.DateTimeField(null=True)
    next_try_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_try_at"], condition=models.Q(done_at=None), name="core_outbox_due")
        ]

    def __str__(self) -> str:
        return f"{self.actor}({self.subject_uid})"


class IdempotencyRecord(TenantModel):
    """The answer given to one `Idempotency-Key`, kept for a day so that a repeat gets the same answer."""

    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)

    class Meta(TenantModel.Meta):
        constraints = [models.UniqueConstraint(fields=["team", "key"], name="core_idempotency_once")]

    def __str__(self) -> str:
        return self.key


class DutyRun(models.Model):
    """Count how often the clock ran a duty, how long that took in all, and how often it failed."""

    name = models.CharField(max_length=120, unique=True)
    runs = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0)
    last_at = models.DateTimeField()
    last_error = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name
