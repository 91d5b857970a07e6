"""Keep the highest version number of a model, so that none is given twice."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0006_project_metadata"),
    ]

    operations = [
        migrations.AddField(
            model_name="loramodel",
            name="last_number",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
    ]
