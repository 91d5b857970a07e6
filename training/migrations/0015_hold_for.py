"""Let the operator say for how long a machine holds slots back for a training on several GPUs."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0014_gpus")]

    operations = [
        migrations.AddField(
            model_name="queuesettings",
            name="hold_for",
            field=models.FloatField(
                db_default=7200.0,
                default=7200.0,
                help_text="Then it takes other jobs for as long. Choose more than most trainings take.",
                validators=[MinValueValidator(1)],
                verbose_name="seconds a machine holds slots back for a training on several GPUs",
            ),
        ),
    ]
