"""Say of a base model's path what works: a folder."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0002_job_threads")]

    operations = [
        migrations.AlterField(
            model_name="foundationmodel",
            name="path",
            field=models.CharField(
                help_text="As diffusers' save_pretrained writes it, with .safetensors. Relative to LF_BASE_MODELS_DIR, where every worker needs it too.",
                max_length=500,
                verbose_name="folder",
            ),
        ),
    ]
