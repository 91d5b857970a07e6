"""Two small tables of plumbing: the outbox and the idempotency keys."""

from __future__ import annotations

from django.db import models

from core.tenancy.models import TenantModel


class OutboxMessage(models.Model):
    """A short job that must not be lost: written with the change that causes it, sent after the commit.

    The broker may lose a message; `tick` sends again what is not done in time. Actors are idempotent.
    """

    actor = models.CharField(max_length=100)
    subject_uid = models.CharField(max_length=40)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["sent_at"], condition=models.Q(done_at=None), name="core_outbox_open")
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
