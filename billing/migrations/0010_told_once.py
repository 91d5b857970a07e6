"""Tell of an event once, however often it is acted upon."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0009_ledger_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="stripeevent",
            name="told_at",
            field=models.DateTimeField(null=True),
        ),
    ]
