"""Sell seats beyond a plan's, remind who is past due, and tell kinds of work apart."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0010_told_once"),
    ]

    operations = [
        migrations.AddField(
            model_name="billingaccount",
            name="extra_seats",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="past_due_reminded_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="billingaccount",
            name="refreshes",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="plan",
            name="seat_cents",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Empty: no more seats than the plan has.",
                null=True,
                verbose_name="price of a further seat a month, in cents",
            ),
        ),
        migrations.AddField(
            model_name="usageentry",
            name="kind",
            field=models.CharField(
                choices=[("training", "Trainings")], db_default="training", default="training", max_length=20
            ),
        ),
    ]
