"""Workers: one row per slot (a GPU, or the CPU) that runs jobs. They belong to the installation."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField


class WorkerState(models.TextChoices):
    IDLE = "idle", _("Idle")
    BUSY = "busy", _("Busy")
    LOST = "lost", _("Lost")


class Worker(models.Model):
    """A slot and its last sign of life."""

    uid = UidField("wrk")
    name = models.CharField(max_length=120)
    device = models.CharField(_("device"), max_length=120)
    memory_mb = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=WorkerState.choices, default=WorkerState.IDLE)
    seen_at = models.DateTimeField()
    started_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.device})"
