"""What Stripe told: every event is stored as it came, then acted upon once."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class EventState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    DONE = "done", _("Done")
    IGNORED = "ignored", _("Not for us")
    FAILED = "failed", _("Failed")


class StripeEvent(models.Model):
    """One event. It belongs to the installation: whose team it is turns out when it is acted upon."""

    uid = models.CharField(_("event"), max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=80)
    payload = models.JSONField(_("content"))
    state = models.CharField(
        _("state"), max_length=10, choices=EventState.choices, default=EventState.WAITING
    )
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)
    done_at = models.DateTimeField(_("done at"), null=True)
    # When people and programs were told of it: once, however often it is acted upon.
    told_at = models.DateTimeField(_("told at"), null=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        verbose_name = _("Stripe event")
        verbose_name_plural = _("Stripe events")
        indexes = [models.Index(fields=["state", "-received_at"], name="billing_event_state")]
        ordering = ["-received_at"]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid}"
