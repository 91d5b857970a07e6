"""A dataset: pictures with captions that can still change. Trainings use frozen versions of it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Dataset(TenantModel):
    uid = UidField("ds")
    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(_("name"), max_length=80)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_dataset", "project"),
            models.UniqueConstraint(fields=["project", "name"], name="projects_dataset_name"),
        ]

    def __str__(self) -> str:
        return self.name


class Item(TenantModel):
    """One picture of a dataset with its caption. The same content is in a dataset once."""

    uid = UidField("img")
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="items")
    blob = models.ForeignKey("projects.Blob", on_delete=models.PROTECT, related_name="+")
    filename = models.CharField(max_length=255)
    # The file name without its ending, in one case: what a caption file beside it is called.
    stem = models.CharField(max_length=255, blank=True)
    caption = models.TextField(blank=True)
    excluded = models.BooleanField(default=False)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_item", "dataset", "blob"),
            models.UniqueConstraint(fields=["dataset", "blob"], name="projects_item_once"),
        ]
        indexes = [
            models.Index(fields=["dataset", "id"], name="projects_item_grid"),
            models.Index(fields=["dataset", "stem"], name="projects_item_stem"),
        ]
        ordering = ["id"]

    def __str__(self) -> str:
        return self.filename
