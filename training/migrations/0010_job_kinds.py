"""Let jobs be of several kinds: short work has a line of its own in each team's queue.

It cannot be taken back once there is short work: a training has pictures, an order has none.
"""

from __future__ import annotations

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("projects", "0007_kept_version_numbers"),
        ("training", "0009_queue_look_back"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="queuesettings",
            name="least_run_for_short",
            field=models.FloatField(
                db_default=120.0,
                default=120.0,
                validators=[django.core.validators.MinValueValidator(0)],
                verbose_name="seconds a training runs at least before it lets short work pass",
            ),
        ),
        migrations.AddField(
            model_name="queuesettings",
            name="short_boost",
            field=models.FloatField(
                db_default=21600.0,
                default=21600.0,
                help_text="Pictures to draw and the like, before trainings of the same plan.",
                validators=[django.core.validators.MinValueValidator(0)],
                verbose_name="head start of short work in seconds",
            ),
        ),
        migrations.AddField(
            model_name="queuesettings",
            name="short_if_free_within",
            field=models.FloatField(
                db_default=45.0,
                default=45.0,
                validators=[django.core.validators.MinValueValidator(0)],
                verbose_name="no training lets short work pass where a slot is free within (seconds)",
            ),
        ),
        migrations.AddField(
            model_name="queuesettings",
            name="short_waits",
            field=models.FloatField(
                db_default=15.0,
                default=15.0,
                validators=[django.core.validators.MinValueValidator(0)],
                verbose_name="seconds short work waits before a training lets it pass",
            ),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="is_short",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="kind",
            field=models.CharField(
                choices=[
                    ("training", "Training"),
                    ("generation", "Pictures"),
                    ("captioning", "Captions"),
                    ("evaluation", "Evaluation"),
                ],
                db_default="training",
                default="training",
                max_length=12,
            ),
        ),
        migrations.AlterField(
            model_name="trainingjob",
            name="dataset_version",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="trainings",
                to="projects.datasetversion",
            ),
        ),
        migrations.AlterField(
            model_name="trainingjob",
            name="desired",
            field=models.CharField(
                blank=True,
                choices=[
                    ("cancel", "Cancel"),
                    ("stop", "Stop and keep"),
                    ("pause", "Pause"),
                    ("preempt", "Make room"),
                    ("yield", "Let short work pass"),
                ],
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            model_name="trainingjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("dataset_version__isnull", False), ("is_short", False), ("kind", "training")),
                    models.Q(models.Q(("kind", "training"), _negated=True), ("is_short", True)),
                    _connector="OR",
                ),
                name="training_job_kind",
            ),
        ),
    ]
