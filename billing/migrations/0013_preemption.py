"""Say whose jobs make room, and for whom."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0012_seat_prices"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="is_preemptible",
            field=models.BooleanField(
                db_default=True,
                default=True,
                help_text="Its running jobs save and wait again when a larger plan's job finds no place.",
                verbose_name="makes room",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="may_preempt",
            field=models.BooleanField(
                db_default=False, default=False, verbose_name="may take the place of smaller plans"
            ),
        ),
    ]
