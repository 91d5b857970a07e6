"""Let a training pay for a head start; who waits already stands where it was queued."""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator
from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import Now


def stand_in_line(apps: Any, schema_editor: Any) -> None:
    """Only who waits or may wait again needs a place: the finished jobs keep the moment of this migration."""
    jobs = apps.get_model("training", "TrainingJob")._base_manager
    jobs.filter(finished_at=None).update(line_at=F("queued_at"))


class Migration(migrations.Migration):
    dependencies = [("training", "0010_job_kinds")]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="line_at",
            field=models.DateTimeField(db_default=Now()),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="is_express",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="rate",
            field=models.FloatField(db_default=1.0, default=1.0),
        ),
        migrations.AddField(
            model_name="queuesettings",
            name="express_boost",
            field=models.FloatField(
                db_default=14400.0,
                default=14400.0,
                help_text="Only plans that pay by GPU time may ask for it.",
                validators=[MinValueValidator(0)],
                verbose_name="head start of express trainings in seconds",
            ),
        ),
        migrations.AddField(
            model_name="queuesettings",
            name="express_rate",
            field=models.FloatField(
                db_default=1.5,
                default=1.5,
                help_text="What a second of an express training is charged as.",
                validators=[MinValueValidator(1)],
                verbose_name="rate of express trainings",
            ),
        ),
        migrations.RunPython(stand_in_line, migrations.RunPython.noop),
    ]
