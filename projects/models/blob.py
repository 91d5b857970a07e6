"""Stored bytes, addressed by their content. One row per team and content: nothing is shared across teams."""

from __future__ import annotations

from django.db import models

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Blob(TenantModel):
    """Bytes in storage under `storage_key`; pictures also have a size and a thumbnail."""

    uid = UidField("blb")
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()
    content_type = models.CharField(max_length=100)
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_blob"),
            models.UniqueConstraint(fields=["team", "sha256"], name="projects_blob_content"),
        ]

    def __str__(self) -> str:
        return self.sha256[:12]
