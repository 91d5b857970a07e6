"""The audit log: who changed what, when. Rows are only ever added (a trigger refuses the rest)."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class AuditEvent(TenantModel):
    """One change. `data` holds what changed, as plain values."""

    # No cascade from people and keys: the log outlives them.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    api_key_uid = models.CharField(max_length=40, blank=True)
    verb = models.CharField(max_length=60)
    subject_uid = models.CharField(max_length=40)
    subject_name = models.CharField(max_length=200, blank=True)
    data = models.JSONField(default=dict)

    class Meta(TenantModel.Meta):
        constraints = tenant_constraints("accounts_auditevent")
        indexes = [models.Index(fields=["team", "-created_at"], name="accounts_audit_recent")]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject_uid}"
