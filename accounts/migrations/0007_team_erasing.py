"""Mark teams that are being erased, so that none is restored halfway."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_retention_report"),
    ]

    operations = [
        migrations.AddField(
            model_name="team",
            name="erasing_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
