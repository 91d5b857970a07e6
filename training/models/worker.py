"""Workers: one row per slot (a GPU, or the CPU) that runs jobs. They belong to the installation."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from training.queue.policy import class_of_gpu


class WorkerState(models.TextChoices):
    IDLE = "idle", _("Idle")
    BUSY = "busy", _("Busy")
    DRAINING = "draining", _("Draining")
    QUARANTINED = "quarantined", _("Quarantined")
    LOST = "lost", _("Lost")


class Worker(models.Model):
    """A slot and its last sign of life."""

    uid = UidField("wrk")
    name = models.CharField(_("name"), max_length=120)
    device = models.CharField(_("device"), max_length=120)
    memory_mb = models.PositiveIntegerField(_("GPU memory (MB)"), default=0)
    # The machine, and which of its GPUs: slots of one machine can be lent to a job that needs several.
    node = models.CharField(_("machine"), max_length=120, blank=True, default="", db_default="")
    number = models.PositiveSmallIntegerField(_("number on the machine"), default=0, db_default=0)
    state = models.CharField(_("state"), max_length=12, choices=WorkerState.choices, default=WorkerState.IDLE)
    seen_at = models.DateTimeField(_("seen at"))
    started_at = models.DateTimeField(_("started at"), auto_now_add=True)
    # A slot that was made free for a job: nobody else's starts here until then.
    reserved_for = models.ForeignKey(
        "training.TrainingJob",
        verbose_name=_("reserved for"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    reserved_until = models.DateTimeField(_("reserved until"), null=True)
    # A job on several GPUs that another slot of the machine runs: this one takes nothing until its attempt ends.
    lent_to = models.ForeignKey(
        "training.TrainingJob",
        verbose_name=_("lent to"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    # Different jobs in a row that crashed here without one that ended well.
    crashes_in_a_row = models.PositiveSmallIntegerField(_("crashes in a row"), default=0, db_default=0)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return f"{self.name} ({self.device})"

    @property
    def gpu_gb(self) -> int:
        """Give the class of its GPU, 0 for a processor."""
        return class_of_gpu(self.memory_mb)
