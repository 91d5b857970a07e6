"""What was used, as higher layers report it. One row per attempt, so that nothing is counted twice."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class UsageKind(models.TextChoices):
    """What the compute was used for; the values are those of `training.kinds`."""

    TRAINING = "training", _("Trainings")
    GENERATION = "generation", _("Pictures")
    CAPTIONING = "captioning", _("Captions")
    EVALUATION = "evaluation", _("Evaluations")


class UsageEntry(TenantModel):
    """Compute seconds of one attempt of one job. `useful` is false for work that was lost.

    Of an attempt that was kept in part, `seconds` are the useful ones and `seconds_lost` those that came after.
    """

    job_uid = models.CharField(max_length=40)
    kind = models.CharField(
        max_length=20, choices=UsageKind, default=UsageKind.TRAINING, db_default=UsageKind.TRAINING
    )
    attempt = models.PositiveIntegerField()
    seconds = models.FloatField()
    useful = models.BooleanField()
    seconds_lost = models.FloatField(default=0, db_default=0)
    # Whose and what for, as it was called then: the row outlives both.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    project_uid = models.CharField(max_length=40, blank=True)
    project_name = models.CharField(max_length=80, blank=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("billing_usageentry"),
            models.UniqueConstraint(fields=["job_uid", "attempt"], name="billing_usageentry_once"),
            models.CheckConstraint(condition=models.Q(seconds__gte=0), name="billing_usageentry_positive"),
            models.CheckConstraint(
                condition=models.Q(seconds_lost=0) | models.Q(useful=True, seconds_lost__gt=0),
                name="billing_usageentry_lost_part",
            ),
        ]
        indexes = [models.Index(fields=["team", "created_at"], name="billing_usageentry_when")]

    def __str__(self) -> str:
        return f"{self.job_uid} #{self.attempt}: {self.seconds:.0f} s"
