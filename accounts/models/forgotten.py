"""The report of retention: what the clock deleted because its time was over."""

from __future__ import annotations

from django.db import models

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Forgotten(TenantModel):
    """Say how much of one kind was deleted for a team on one day (UTC). `what` is a key of `core.retention`."""

    day = models.DateField()
    what = models.CharField(max_length=40)
    count = models.PositiveIntegerField()
    bytes = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("accounts_forgotten"),
            models.UniqueConstraint(fields=["team", "day", "what"], name="accounts_forgotten_once"),
        ]
        ordering = ["-day", "what"]

    def __str__(self) -> str:
        return f"{self.day} {self.what}: {self.count}"
