"""A dataset version: the only thing a training can use. A database trigger refuses any change to it."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class DatasetVersion(TenantModel):
    uid = UidField("dsv")
    dataset = models.ForeignKey("projects.Dataset", on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    item_count = models.PositiveIntegerField()
    manifest_sha256 = models.CharField(max_length=64)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_datasetversion", "dataset"),
            models.UniqueConstraint(fields=["dataset", "number"], name="projects_datasetversion_number"),
            # The same content is one version, also when two people freeze at once.
            models.UniqueConstraint(
                fields=["dataset", "manifest_sha256"], name="projects_datasetversion_manifest"
            ),
        ]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.dataset} v{self.number}"


class DatasetVersionItem(TenantModel):
    """One picture of a version: a copy of file name and caption, never a link to the changing `Item`."""

    version = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="items")
    blob = models.ForeignKey("projects.Blob", on_delete=models.PROTECT, related_name="+")
    position = models.PositiveIntegerField()
    filename = models.CharField(max_length=255)
    caption = models.TextField(blank=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_datasetversionitem", "version", "blob"),
            models.UniqueConstraint(fields=["version", "position"], name="projects_versionitem_position"),
        ]
        ordering = ["position"]

    def __str__(self) -> str:
        return self.filename
