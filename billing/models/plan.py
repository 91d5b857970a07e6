"""Plans, and which of them a team is on."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Plan(models.Model):
    """What a team on this plan may use. An empty limit means that there is none."""

    key = models.SlugField(_("key"), max_length=40, unique=True)
    name = models.CharField(_("name"), max_length=80)
    retention_days = models.PositiveIntegerField(
        _("days earlier checkpoints are kept"),
        null=True,
        blank=True,
        help_text=_(
            "After the end of their training. The finished file stays. Empty: until somebody deletes them."
        ),
    )

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name


class BillingAccount(TenantModel):
    """The plan of a team. A team without a row is on the installation's default plan."""

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("billing_account"),
            models.UniqueConstraint(fields=["team"], name="billing_account_team"),
        ]

    def __str__(self) -> str:
        return f"{self.team}: {self.plan}"
