"""Put the heads of both lines of a team into one index, without keeping anybody from writing meanwhile."""

from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("training", "0011_express")]

    operations = [
        AddIndexConcurrently(
            model_name="trainingjob",
            index=models.Index(
                condition=models.Q(("is_test", False), ("state", "queued")),
                fields=["team", "is_short", "gpu_gb", "line_at", "id"],
                name="training_job_heads",
            ),
        ),
        RemoveIndexConcurrently(model_name="trainingjob", name="training_job_lines"),
    ]
