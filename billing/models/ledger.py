"""The ledger of GPU time: double entry in whole seconds, append-only. The database keeps it balanced (migration)."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Account(models.TextChoices):
    """Name the accounts of a team. What comes in comes from ISSUED or OVERAGE, what is spent ends in USED."""

    ALLOWANCE = "allowance", _("Left of this month")
    BOUGHT = "bought", _("Left of what was bought")
    HELD_ALLOWANCE = "held_allowance", _("Reserved, of this month")
    HELD_BOUGHT = "held_bought", _("Reserved, of what was bought")
    HELD_OVERAGE = "held_overage", _("Reserved, to be invoiced")
    USED = "used", _("Used")
    LAPSED = "lapsed", _("Lapsed")
    ISSUED = "issued", _("Issued")
    OVERAGE = "overage", _("To be invoiced")


# Where the others' seconds come from: never above zero, as the others are never below it.
SOURCES = (Account.ISSUED, Account.OVERAGE)


class Kind(models.TextChoices):
    ALLOWANCE = "allowance", _("Allowance of the month")
    TOP_UP = "top_up", _("Top-up")
    GRANT = "grant", _("Granted by the operator")
    HOLD = "hold", _("Reserved for a training")
    SETTLE = "settle", _("Used by a training")
    RELEASE = "release", _("Not needed after all")
    REFUND = "refund", _("Refund")


class LedgerTransaction(TenantModel):
    """One event in the ledger; its entries add up to zero. `key` makes it happen once."""

    uid = UidField("ltx")
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    key = models.CharField(_("key"), max_length=120)
    job_uid = models.CharField(_("job"), max_length=40, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), null=True)
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    # No cascade from people: the ledger outlives them.
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("made by"),
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
    )
    reverses = models.ForeignKey(
        "self", verbose_name=_("reverses"), null=True, on_delete=models.PROTECT, related_name="reversals"
    )

    class Meta(TenantModel.Meta):
        verbose_name = _("ledger transaction")
        verbose_name_plural = _("ledger transactions")
        constraints = [
            *tenant_constraints("billing_transaction", "reverses"),
            models.UniqueConstraint(fields=["team", "key"], name="billing_transaction_once"),
        ]
        indexes = [
            models.Index(fields=["team", "-created_at"], name="billing_transaction_recent"),
            models.Index(
                fields=["team", "job_uid"], name="billing_transaction_job", condition=~Q(job_uid="")
            ),
            models.Index(
                fields=["team", "key"], name="billing_transaction_month", condition=Q(kind=Kind.ALLOWANCE)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class LedgerEntry(TenantModel):
    """Seconds that one transaction moves into an account, or out of it (below zero)."""

    transaction = models.ForeignKey(LedgerTransaction, on_delete=models.PROTECT, related_name="entries")
    account = models.CharField(_("account"), max_length=16, choices=Account.choices)
    seconds = models.BigIntegerField(_("seconds"))

    class Meta(TenantModel.Meta):
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger entries")
        constraints = [
            *tenant_constraints("billing_entry", "transaction"),
            models.UniqueConstraint(fields=["transaction", "account"], name="billing_entry_once"),
            models.CheckConstraint(condition=~Q(seconds=0), name="billing_entry_moves"),
        ]
        indexes = [
            models.Index(
                fields=["team", "created_at"],
                name="billing_entry_overage",
                condition=Q(account=Account.OVERAGE),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.seconds:+d}"


class Balance(TenantModel):
    """What an account holds: the sum of its entries, kept by a trigger, so that no page has to add up."""

    account = models.CharField(max_length=16, choices=Account.choices)
    seconds = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("billing_balance"),
            models.UniqueConstraint(fields=["team", "account"], name="billing_balance_once"),
            models.CheckConstraint(
                condition=Q(account__in=SOURCES, seconds__lte=0)
                | (~Q(account__in=SOURCES) & Q(seconds__gte=0)),
                name="billing_balance_sign",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.seconds}"
