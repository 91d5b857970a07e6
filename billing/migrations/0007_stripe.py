"""Keep what Stripe says of a team, its messages, top-ups, and which alerts were told."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("billing", "0006_ledger_rules"),
    ]

    operations = [
        migrations.CreateModel(
            name="LimitAlert",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("month", models.DateField()),
                ("what", models.CharField(max_length=20)),
                ("percent", models.PositiveSmallIntegerField()),
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
            name="StripeEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.CharField(max_length=64, unique=True, verbose_name="event")),
                ("kind", models.CharField(max_length=80, verbose_name="kind")),
                ("payload", models.JSONField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("done", "Done"),
                            ("ignored", "Not for us"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("received_at", models.DateTimeField(auto_now_add=True)),
                ("done_at", models.DateTimeField(null=True)),
                ("tries", models.PositiveIntegerField(default=0)),
                ("error", models.TextField(blank=True)),
            ],
            options={
                "ordering": ["-received_at"],
            },
        ),
        migrations.CreateModel(
            name="TopUp",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.SlugField(max_length=40, unique=True, verbose_name="key")),
                ("seconds", models.PositiveIntegerField(verbose_name="GPU seconds")),
                ("price_cents", models.PositiveIntegerField(verbose_name="price, in cents")),
                ("is_on_sale", models.BooleanField(default=True, verbose_name="on sale")),
            ],
            options={
                "ordering": ["seconds"],
            },
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="data_kept_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="ends_at_period_end",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="next_plan",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.plan",
            ),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="past_due_since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="period_end",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="status",
            field=models.CharField(blank=True, max_length=24),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="stripe_customer",
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="subscription",
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="trial_end",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name="billingaccount",
            constraint=models.UniqueConstraint(
                condition=models.Q(("stripe_customer", ""), _negated=True),
                fields=("stripe_customer",),
                name="billing_account_customer",
            ),
        ),
        migrations.AddField(
            model_name="limitalert",
            name="team",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AddIndex(
            model_name="stripeevent",
            index=models.Index(fields=["state", "-received_at"], name="billing_event_state"),
        ),
        migrations.AddConstraint(
            model_name="limitalert",
            constraint=models.UniqueConstraint(fields=("team", "id"), name="billing_alert_team_id"),
        ),
        migrations.AddConstraint(
            model_name="limitalert",
            constraint=models.UniqueConstraint(
                fields=("team", "month", "what", "percent"), name="billing_alert_once"
            ),
        ),
    ]
