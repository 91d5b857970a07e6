"""Let captions be ordered: without a base model, and with what each picture had before.

It cannot be taken back once captions were ordered: they have no base model.
"""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models

import core.tenancy.constraints


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("projects", "0007_kept_version_numbers"),
        ("training", "0012_job_heads"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="WantedCaption",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("before", models.TextField(blank=True)),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("written", "Written"),
                            ("kept", "Kept as somebody wrote it meanwhile"),
                            ("left", "Left as it was"),
                            ("simulated", "Simulated"),
                        ],
                        max_length=10,
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AlterField(
            model_name="trainingjob",
            name="foundation_model",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="trainings",
                to="training.foundationmodel",
            ),
        ),
        migrations.AddConstraint(
            model_name="trainingjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("foundation_model__isnull", True), ("kind", "captioning")),
                    models.Q(
                        models.Q(("kind", "captioning"), _negated=True), ("foundation_model__isnull", False)
                    ),
                    _connector="OR",
                ),
                name="training_job_base",
            ),
        ),
        migrations.AddField(
            model_name="wantedcaption",
            name="item",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="projects.item"
            ),
        ),
        migrations.AddField(
            model_name="wantedcaption",
            name="job",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="captions",
                to="training.trainingjob",
            ),
        ),
        migrations.AddField(
            model_name="wantedcaption",
            name="team",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AddConstraint(
            model_name="wantedcaption",
            constraint=models.UniqueConstraint(fields=("team", "id"), name="training_wantedcaption_team_id"),
        ),
        migrations.AddConstraint(
            model_name="wantedcaption",
            constraint=core.tenancy.constraints.SameTeam(
                name="training_wantedcaption_same_team_job", parent="job"
            ),
        ),
        migrations.AddConstraint(
            model_name="wantedcaption",
            constraint=core.tenancy.constraints.SameTeam(
                name="training_wantedcaption_same_team_item", parent="item"
            ),
        ),
        migrations.AddConstraint(
            model_name="wantedcaption",
            constraint=models.UniqueConstraint(fields=("job", "item"), name="training_wantedcaption_once"),
        ),
    ]
