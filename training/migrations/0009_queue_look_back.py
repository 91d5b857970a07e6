"""Find what ended of late by an index."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("projects", "0007_kept_version_numbers"),
        ("training", "0008_metric_outlines"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="attempt",
            index=models.Index(
                condition=models.Q(("outcome", "succeeded")),
                fields=["-ended_at"],
                name="training_attempt_good_ends",
            ),
        ),
        AddIndexConcurrently(
            model_name="trainingjob",
            index=models.Index(fields=["finished_at"], name="training_job_finished_at"),
        ),
    ]
