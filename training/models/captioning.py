"""What an order for captions asks of each picture, and what became of it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class CaptionMode(models.TextChoices):
    """What to do with captions that are there already."""

    EMPTY = "empty", _("Only pictures without a caption")
    REPLACE = "replace", _("Replace the captions")
    APPEND = "append", _("Add to the captions")


class CaptionOutcome(models.TextChoices):
    """What became of one picture of an order; blank while it waits."""

    WRITTEN = "written", _("Written")
    # A person changed the caption since the order was given: theirs stays.
    KEPT = "kept", _("Kept as somebody wrote it meanwhile")
    # The picture was excluded meanwhile, or there was nothing to say, or no room to say it.
    LEFT = "left", _("Left as it was")
    # Told to a test key; the picture keeps its caption.
    SIMULATED = "simulated", _("Simulated")


class WantedCaption(TenantModel):
    """One picture of an order for captions. `before` is the caption it had when the order was given."""

    job = models.ForeignKey("training.TrainingJob", on_delete=models.CASCADE, related_name="captions")
    item = models.ForeignKey("projects.Item", on_delete=models.CASCADE, related_name="+")
    before = models.TextField(blank=True)
    outcome = models.CharField(max_length=10, choices=CaptionOutcome.choices, blank=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_wantedcaption", "job", "item"),
            models.UniqueConstraint(fields=["job", "item"], name="training_wantedcaption_once"),
        ]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.item_id}"
