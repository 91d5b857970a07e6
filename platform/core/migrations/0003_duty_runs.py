"""Count the runs of the clock's duties."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0002_outbox_leases"),
    ]

    operations = [
        migrations.CreateModel(
            name="DutyRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=120, unique=True)),
                ("runs", models.PositiveBigIntegerField(default=0)),
                ("failures", models.PositiveBigIntegerField(default=0)),
                ("seconds", models.FloatField(default=0)),
                ("last_at", models.DateTimeField()),
                ("last_error", models.TextField(blank=True)),
            ],
        ),
    ]
