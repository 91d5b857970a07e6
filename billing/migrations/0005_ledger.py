"""Keep a ledger of GPU time, and the limit a team sets itself."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models

import core.ids
import core.tenancy.constraints


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("billing", "0004_first_plans"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="billingaccount",
            name="spend_limit_cents",
            field=models.PositiveIntegerField(default=0, verbose_name="spend limit a month, in cents"),
        ),
        migrations.CreateModel(
            name="LedgerTransaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("uid", core.ids.UidField("ltx")),
                (
                    "kind",
                    models.CharField(
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
                    ),
                ),
                ("key", models.CharField(max_length=120)),
                ("job_uid", models.CharField(blank=True, max_length=40)),
                ("attempt", models.PositiveIntegerField(null=True)),
                ("reason", models.CharField(blank=True, max_length=200)),
                (
                    "made_by",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "reverses",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reversals",
                        to="billing.ledgertransaction",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="LedgerEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "account",
                    models.CharField(
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
                    ),
                ),
                ("seconds", models.BigIntegerField()),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
                    ),
                ),
                (
                    "transaction",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="billing.ledgertransaction",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="Balance",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "account",
                    models.CharField(
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
                    ),
                ),
                ("seconds", models.BigIntegerField(default=0)),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(fields=("team", "id"), name="billing_balance_team_id"),
                    models.UniqueConstraint(fields=("team", "account"), name="billing_balance_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("account__in", ("issued", "overage")), ("seconds__lte", 0)),
                            models.Q(
                                models.Q(("account__in", ("issued", "overage")), _negated=True),
                                ("seconds__gte", 0),
                            ),
                            _connector="OR",
                        ),
                        name="billing_balance_sign",
                    ),
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AddIndex(
            model_name="ledgertransaction",
            index=models.Index(fields=["team", "-created_at"], name="billing_transaction_recent"),
        ),
        migrations.AddIndex(
            model_name="ledgertransaction",
            index=models.Index(
                condition=models.Q(("job_uid", ""), _negated=True),
                fields=["team", "job_uid"],
                name="billing_transaction_job",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgertransaction",
            constraint=models.UniqueConstraint(fields=("team", "id"), name="billing_transaction_team_id"),
        ),
        migrations.AddConstraint(
            model_name="ledgertransaction",
            constraint=core.tenancy.constraints.SameTeam(
                name="billing_transaction_same_team_reverses", parent="reverses"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgertransaction",
            constraint=models.UniqueConstraint(fields=("team", "key"), name="billing_transaction_once"),
        ),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(
                condition=models.Q(("account", "overage")),
                fields=["team", "created_at"],
                name="billing_entry_overage",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=models.UniqueConstraint(fields=("team", "id"), name="billing_entry_team_id"),
        ),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=core.tenancy.constraints.SameTeam(
                name="billing_entry_same_team_transaction", parent="transaction"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=models.UniqueConstraint(fields=("transaction", "account"), name="billing_entry_once"),
        ),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=models.CheckConstraint(
                condition=models.Q(("seconds", 0), _negated=True), name="billing_entry_moves"
            ),
        ),
    ]
