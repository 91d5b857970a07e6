"""Say which base models are part of every plan."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0004_test_trainings"),
    ]

    operations = [
        migrations.AddField(
            model_name="foundationmodel",
            name="is_standard",
            field=models.BooleanField(
                db_default=True,
                default=True,
                help_text="Otherwise only of plans that include every base model.",
                verbose_name="part of every plan",
            ),
        ),
    ]
