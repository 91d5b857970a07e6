"""Give teams plans."""

from __future__ import annotations

import django.core.validators
import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_retention_report"),
        ("billing", "0002_usage_by_whom"),
    ]

    operations = [
        migrations.CreateModel(
            name="Plan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.SlugField(max_length=40, unique=True, verbose_name="key")),
                ("name", models.CharField(max_length=80, verbose_name="name")),
                (
                    "position",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="The smallest plan comes first.", verbose_name="position"
                    ),
                ),
                (
                    "is_on_sale",
                    models.BooleanField(
                        default=True, help_text="Shown on the page of prices.", verbose_name="on sale"
                    ),
                ),
                (
                    "price_cents",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Empty: by agreement.",
                        null=True,
                        verbose_name="price a month, in cents",
                    ),
                ),
                ("trial_days", models.PositiveSmallIntegerField(default=0, verbose_name="days of trial")),
                (
                    "trainings_a_month",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="trainings a month"),
                ),
                (
                    "gpu_seconds_a_month",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Empty: what is used is noted and never charged.",
                        null=True,
                        verbose_name="GPU seconds a month",
                    ),
                ),
                (
                    "overage_cents_an_hour",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Charged with the next invoice up to the team's own spend limit. Empty: only top-ups.",
                        null=True,
                        verbose_name="price of a further GPU hour, in cents",
                    ),
                ),
                (
                    "stored_bytes",
                    models.PositiveBigIntegerField(blank=True, null=True, verbose_name="storage in bytes"),
                ),
                ("seats", models.PositiveIntegerField(blank=True, null=True, verbose_name="seats")),
                (
                    "running_trainings",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="trainings at once"),
                ),
                (
                    "queued_trainings",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="trainings waiting"),
                ),
                (
                    "steps_per_training",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="steps of a training"),
                ),
                (
                    "pictures_per_dataset",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="pictures in a set"),
                ),
                (
                    "retention_days",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="After the end of their training. The finished file stays. Empty: until somebody deletes them.",
                        null=True,
                        verbose_name="days earlier checkpoints are kept",
                    ),
                ),
                (
                    "has_api",
                    models.BooleanField(
                        default=True,
                        help_text="Without it, keys and tokens may only read.",
                        verbose_name="API that changes things",
                    ),
                ),
                ("has_all_base_models", models.BooleanField(default=True, verbose_name="every base model")),
                (
                    "boost_seconds",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="A job counts as if it had waited so much longer.",
                        verbose_name="head start in the queue, in seconds",
                    ),
                ),
                (
                    "weight",
                    models.PositiveSmallIntegerField(
                        default=1,
                        help_text="The share of a busy queue.",
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="weight in the queue",
                    ),
                ),
            ],
            options={
                "ordering": ["position", "pk"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("weight__gte", 1)), name="billing_plan_weight")
                ],
            },
        ),
        migrations.CreateModel(
            name="BillingAccount",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.plan"
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(fields=("team", "id"), name="billing_account_team_id"),
                    models.UniqueConstraint(fields=("team",), name="billing_account_team"),
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
    ]
