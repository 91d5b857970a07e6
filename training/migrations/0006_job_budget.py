"""Keep the cap of a training, and why one rests that nobody told to."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0005_standard_base_models"),
    ]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="hard_cap_seconds",
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="rest_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("insufficient_credits", "The team's GPU time is used up."),
                    ("spend_limit_reached", "The team's spend limit is reached."),
                    ("hard_cap_reached", "The cap of this training is reached."),
                ],
                db_default="",
                max_length=24,
            ),
        ),
    ]
