"""Tell what compute was used for beside trainings, and have the plan without limits let short work pass."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models


def let_short_work_pass(apps: Any, schema_editor: Any) -> None:
    apps.get_model("billing", "Plan").objects.filter(key="unlimited", may_preempt=False).update(
        is_preemptible=True
    )


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0014_preemption_of_first_plans"),
    ]

    operations = [
        migrations.RunPython(let_short_work_pass, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="usageentry",
            name="kind",
            field=models.CharField(
                choices=[
                    ("training", "Trainings"),
                    ("generation", "Pictures"),
                    ("captioning", "Captions"),
                    ("evaluation", "Evaluations"),
                ],
                db_default="training",
                default="training",
                max_length=20,
            ),
        ),
    ]
