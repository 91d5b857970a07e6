"""Name plans, accounts, the ledger and Stripe's events, with their fields, in the operator's language; no table changes."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from core.naming import NamesOnly, named


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0016_lost_part_of_attempts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        NamesOnly(
            state_operations=[
                migrations.AlterModelOptions(
                    name="billingaccount",
                    options={
                        "base_manager_name": "unscoped",
                        "default_manager_name": "unscoped",
                        "verbose_name": "billing account",
                        "verbose_name_plural": "billing accounts",
                    },
                ),
                migrations.AlterModelOptions(
                    name="ledgerentry",
                    options={
                        "base_manager_name": "unscoped",
                        "default_manager_name": "unscoped",
                        "verbose_name": "ledger entry",
                        "verbose_name_plural": "ledger entries",
                    },
                ),
                migrations.AlterModelOptions(
                    name="ledgertransaction",
                    options={
                        "base_manager_name": "unscoped",
                        "default_manager_name": "unscoped",
                        "verbose_name": "ledger transaction",
                        "verbose_name_plural": "ledger transactions",
                    },
                ),
                migrations.AlterModelOptions(
                    name="plan",
                    options={
                        "ordering": ["position", "pk"],
                        "verbose_name": "plan",
                        "verbose_name_plural": "plans",
                    },
                ),
                migrations.AlterModelOptions(
                    name="stripeevent",
                    options={
                        "ordering": ["-received_at"],
                        "verbose_name": "Stripe event",
                        "verbose_name_plural": "Stripe events",
                    },
                ),
                migrations.AlterModelOptions(
                    name="topup",
                    options={
                        "ordering": ["seconds"],
                        "verbose_name": "top-up",
                        "verbose_name_plural": "top-ups",
                    },
                ),
                *named(
                    "billingaccount",
                    past_due_since=models.DateTimeField(blank=True, null=True, verbose_name="past due since"),
                    period_end=models.DateTimeField(blank=True, null=True, verbose_name="period end"),
                    plan=models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="billing.plan",
                        verbose_name="plan",
                    ),
                    status=models.CharField(blank=True, max_length=24, verbose_name="status"),
                ),
                *named(
                    "ledgerentry",
                    account=models.CharField(
                        choices=[
                            ("allowance", "Left of this month"),
                            ("bought", "Left of what was bought"),
                            ("held_allowance", "Reserved, of this month"),
                            ("held_bought", "Reserved, of what was bought"),
                            ("held_overage", "Reserved, to be invoiced"),
                            ("used", "Used"),
                            ("lapsed", "Lapsed"),
                            ("issued", "Issued"),
                            ("overage", "To be invoiced"),
                        ],
                        max_length=16,
                        verbose_name="account",
                    ),
                    seconds=models.BigIntegerField(verbose_name="seconds"),
                ),
                *named(
                    "ledgertransaction",
                    attempt=models.PositiveIntegerField(null=True, verbose_name="attempt"),
                    job_uid=models.CharField(blank=True, max_length=40, verbose_name="job"),
                    key=models.CharField(max_length=120, verbose_name="key"),
                    kind=models.CharField(
                        choices=[
                            ("allowance", "Allowance of the month"),
                            ("top_up", "Top-up"),
                            ("grant", "Granted by the operator"),
                            ("hold", "Reserved for a training"),
                            ("settle", "Used by a training"),
                            ("release", "Not needed after all"),
                            ("refund", "Refund"),
                        ],
                        max_length=10,
                        verbose_name="kind",
                    ),
                    made_by=models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="made by",
                    ),
                    reason=models.CharField(blank=True, max_length=200, verbose_name="reason"),
                    reverses=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reversals",
                        to="billing.ledgertransaction",
                        verbose_name="reverses",
                    ),
                ),
                *named(
                    "stripeevent",
                    done_at=models.DateTimeField(null=True, verbose_name="done at"),
                    error=models.TextField(blank=True, verbose_name="error"),
                    payload=models.JSONField(verbose_name="content"),
                    received_at=models.DateTimeField(auto_now_add=True, verbose_name="received at"),
                    state=models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("done", "Done"),
                            ("ignored", "Not for us"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=10,
                        verbose_name="state",
                    ),
                    told_at=models.DateTimeField(null=True, verbose_name="told at"),
                    tries=models.PositiveIntegerField(default=0, verbose_name="tries"),
                ),
            ]
        ),
    ]
