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
    name = models.CharField(max_length=120)
    device = models.CharField(_("device"), max_length=120)
    memory_mb = models.PositiveIntegerField(default=0)
    # The machine, and which of its GPUs: slots of one machine can be lent to a job that needs several.
    node = models.CharField(max_length=120, blank=True, default="", db_default="")
    number = models.PositiveSmallIntegerField(default=0, db_default=0)
    state = models.CharField(max_length=12, choices=WorkerState.choices, default=WorkerState.IDLE)
    seen_at = models.DateTimeField()
    started_at = models.DateTimeField(auto_now_add=True)
    # A slot that was made free for a job: nobody else's starts here until then.
    reserved_for = models.ForeignKey(
        "training.TrainingJob", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    reserved_until = models.DateTimeField(null=True)
    # A job on several GPUs that another slot of the machine runs: this one takes nothing until its attempt ends.
    lent_to = models.ForeignKey(
        "training.TrainingJob", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Different jobs in a row that crashed here without one that ended well.
    crashes_in_a_row = models.PositiveSmallIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"{self.name} ({self.device})"

    @property
    def gpu_gb(self) -> int:
        """Give the class of its GPU, 0 for a processor."""
        return class_of_gpu(self.memory_mb)
