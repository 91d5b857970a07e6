"""Let a job remember how many CPU threads its first attempt found fastest."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0001_initial")]

    operations = [
        # The default stays in the database: workers of the version before write rows without it.
        migrations.AddField(
            model_name="trainingjob",
            name="threads",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
    ]
