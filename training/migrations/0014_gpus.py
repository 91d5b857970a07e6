"""Let a training take several slots of one machine at once."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0013_captions")]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="gpus",
            field=models.PositiveSmallIntegerField(db_default=1, default=1),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="held_node",
            field=models.CharField(blank=True, db_default="", default="", max_length=120),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="held_since",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="worker",
            name="lent_to",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="training.trainingjob",
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="node",
            field=models.CharField(blank=True, db_default="", default="", max_length=120),
        ),
        migrations.AddField(
            model_name="worker",
            name="number",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddConstraint(
            model_name="trainingjob",
            constraint=models.CheckConstraint(
                condition=models.Q(gpus=1) | models.Q(is_short=False, gpus__gt=1), name="training_job_gpus"
            ),
        ),
    ]
