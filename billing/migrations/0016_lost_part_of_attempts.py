"""Note the lost part of an attempt beside its useful one: an attempt stays one row, charged once."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0015_short_work")]

    operations = [
        migrations.AddField(
            model_name="usageentry",
            name="seconds_lost",
            field=models.FloatField(db_default=0, default=0),
        ),
        migrations.AddConstraint(
            model_name="usageentry",
            constraint=models.CheckConstraint(
                condition=models.Q(seconds_lost=0) | models.Q(useful=True, seconds_lost__gt=0),
                name="billing_usageentry_lost_part",
            ),
        ),
    ]
