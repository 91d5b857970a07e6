"""Base models that trainings start from. Global: they belong to the installation, not to a team."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _


class FoundationModel(models.Model):
    """A base model on disk. `family` names the engine's adapter; `sha256` identifies the weights."""

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=80)
    family = models.CharField(_("family"), max_length=40)
    path = models.CharField(
        _("folder"),
        max_length=500,
        help_text=_(
            "As diffusers' save_pretrained writes it, with .safetensors. Relative to LF_BASE_MODELS_DIR, where every "
            "worker needs it too."
        ),
    )
    # Computed from the files (`services.foundation_models`), never typed.
    sha256 = models.CharField(_("sha256"), max_length=64)
    licence = models.CharField(_("licence"), max_length=80)
    description = models.CharField(_("description"), max_length=400, blank=True)
    resolution = models.PositiveIntegerField(_("native resolution"), default=512)
    memory_mb = models.PositiveIntegerField(_("memory needed (MB)"), default=0)
    # Prompts to offer. A small model knows a list of things; asked for others it draws something else.
    prompts = ArrayField(
        models.CharField(max_length=200), verbose_name=_("prompts"), default=list, blank=True
    )
    is_demo = models.BooleanField(_("is demo"), default=False)
    is_standard = models.BooleanField(
        _("part of every plan"),
        default=True,
        db_default=True,
        help_text=_("Otherwise only of plans that include every base model."),
    )
    is_active = models.BooleanField(_("offered for new trainings"), default=True)

    class Meta:
        verbose_name = _("base model")
        verbose_name_plural = _("base models")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
