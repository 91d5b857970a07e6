"""Which alerts a team got, so that each comes once a month."""

from __future__ import annotations

from django.db import models

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class LimitAlert(TenantModel):
    """Say that `percent` of `what` (allowance, spend_limit) was told in a month."""

    month = models.DateField()
    what = models.CharField(max_length=20)
    percent = models.PositiveSmallIntegerField()

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("billing_alert"),
            models.UniqueConstraint(fields=["team", "month", "what", "percent"], name="billing_alert_once"),
        ]

    def __str__(self) -> str:
        return f"{self.month} {self.what} {self.percent} %"
