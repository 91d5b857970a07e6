"""The kinds of work that workers do. Pure: no Django models, no database."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class JobKind(models.TextChoices):
    """What a job does; all but trainings are short work, which has a line and a limit of its own in the queue."""

    TRAINING = "training", _("Training")
    GENERATION = "generation", _("Pictures")
    CAPTIONING = "captioning", _("Captions")
    EVALUATION = "evaluation", _("Evaluation")


# How the uid of a job begins.
PREFIXES = {
    JobKind.TRAINING: "trn",
    JobKind.GENERATION: "gen",
    JobKind.CAPTIONING: "cpt",
    JobKind.EVALUATION: "evl",
}


def is_short(kind: str) -> bool:
    """Tell whether jobs of `kind` are short work."""
    return kind != JobKind.TRAINING
