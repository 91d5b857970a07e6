"""Exports: one zip with everything a team owns, made on request and kept for a week."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class ExportState(models.TextChoices):
    PENDING = "pending", _("Being made")
    READY = "ready", _("Ready")
    FAILED = "failed", _("Failed")


class TeamExport(TenantModel):
    """One zip of a team's rows and files. `counts` says how many rows of each table went in."""

    uid = UidField("exp")
    state = models.CharField(max_length=10, choices=ExportState.choices, default=ExportState.PENDING)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    size = models.BigIntegerField(default=0)
    counts = models.JSONField(default=dict)
    expires_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints = tenant_constraints("accounts_teamexport")

    def __str__(self) -> str:
        return self.uid
