"""Keep what the queue's order, forecast and preemption need."""

from __future__ import annotations

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("projects", "0007_kept_version_numbers"),
        ("training", "0006_job_budget"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="QueueLook",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(auto_now=True)),
                ("spread", models.FloatField(default=1.5)),
                ("last_wait", models.FloatField(default=0)),
                (
                    "scores",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.FloatField(), default=list, size=None
                    ),
                ),
                (
                    "places",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveIntegerField(), default=list, size=None
                    ),
                ),
                (
                    "waits",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.FloatField(), default=list, size=None
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="QueueSettings",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "half_life_days",
                    models.FloatField(
                        default=7.0,
                        help_text="GPU time used so long ago counts half.",
                        validators=[django.core.validators.MinValueValidator(0.01)],
                        verbose_name="half-life of use, in days",
                    ),
                ),
                (
                    "seconds_per_gpu_hour",
                    models.FloatField(
                        default=600.0,
                        help_text="Divided by the plan's weight.",
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="seconds back for each GPU hour of late",
                    ),
                ),
                (
                    "longest_for_use",
                    models.FloatField(
                        default=14400.0,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="most seconds back for use",
                    ),
                ),
                (
                    "seconds_per_running_job",
                    models.FloatField(
                        default=900.0,
                        help_text="Divided by the plan's weight.",
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="seconds back for each running job",
                    ),
                ),
                (
                    "misfit_seconds",
                    models.FloatField(
                        default=600.0,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="seconds back on a GPU that is larger than needed",
                    ),
                ),
                (
                    "preempt_after",
                    models.FloatField(
                        default=120.0,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="seconds a job waits before it may preempt",
                    ),
                ),
                (
                    "preempt_if_free_within",
                    models.FloatField(
                        default=180.0,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="no preemption where a slot is free within (seconds)",
                    ),
                ),
                (
                    "least_run",
                    models.FloatField(
                        default=900.0,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="seconds a job runs at least before it is preempted",
                    ),
                ),
                (
                    "least_left",
                    models.FloatField(
                        default=600.0,
                        validators=[django.core.validators.MinValueValidator(0)],
                        verbose_name="no preemption of a job with less left than (seconds)",
                    ),
                ),
                (
                    "most_preemptions_a_day",
                    models.PositiveSmallIntegerField(
                        default=3, verbose_name="most preemptions of a job a day"
                    ),
                ),
                (
                    "reserved_for",
                    models.FloatField(
                        default=180.0,
                        validators=[django.core.validators.MinValueValidator(1)],
                        verbose_name="seconds a slot stays reserved",
                    ),
                ),
            ],
            options={
                "verbose_name": "queue settings",
                "verbose_name_plural": "queue settings",
            },
        ),
        migrations.CreateModel(
            name="TeamUsage",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("seconds", models.FloatField(default=0)),
                ("as_of", models.DateTimeField()),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        migrations.RemoveIndex(
            model_name="trainingjob",
            name="training_job_queue",
        ),
        migrations.AddField(
            model_name="attempt",
            name="charged_seconds",
            field=models.FloatField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="expected_start",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="gpu_gb",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="latest_start",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="place",
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="waits_for",
            field=models.CharField(
                blank=True,
                choices=[
                    ("worker", "No worker is running."),
                    ("gpu", "No worker has a GPU that is large enough."),
                    ("limit", "The team runs as many trainings at once as it may."),
                    ("time", "It was interrupted and is tried again in a moment."),
                    ("turn", "Others are before it."),
                    ("nothing", "A worker is free."),
                ],
                db_default="",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="crashes_in_a_row",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="worker",
            name="reserved_for",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="training.trainingjob",
            ),
        ),
        migrations.AddField(
            model_name="worker",
            name="reserved_until",
            field=models.DateTimeField(null=True),
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
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="worker",
            name="state",
            field=models.CharField(
                choices=[
                    ("idle", "Idle"),
                    ("busy", "Busy"),
                    ("draining", "Draining"),
                    ("quarantined", "Quarantined"),
                    ("lost", "Lost"),
                ],
                default="idle",
                max_length=12,
            ),
        ),
        migrations.AddIndex(
            model_name="trainingjob",
            index=models.Index(
                condition=models.Q(("is_test", False), ("state", "queued")),
                fields=["team", "gpu_gb", "queued_at", "id"],
                name="training_job_lines",
            ),
        ),
        migrations.AddIndex(
            model_name="trainingjob",
            index=models.Index(
                condition=models.Q(("state__in", ["finalizing", "running", "starting", "stopping"])),
                fields=["team"],
                name="training_job_live",
            ),
        ),
        migrations.AddConstraint(
            model_name="queuelook",
            constraint=models.CheckConstraint(condition=models.Q(("pk", 1)), name="training_queuelook_one"),
        ),
        migrations.AddConstraint(
            model_name="queuesettings",
            constraint=models.CheckConstraint(
                condition=models.Q(("pk", 1)), name="training_queuesettings_one"
            ),
        ),
        migrations.AddField(
            model_name="teamusage",
            name="team",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AddConstraint(
            model_name="teamusage",
            constraint=models.UniqueConstraint(fields=("team", "id"), name="training_teamusage_team_id"),
        ),
        migrations.AddConstraint(
            model_name="teamusage",
            constraint=models.UniqueConstraint(fields=("team",), name="training_teamusage_team"),
        ),
        migrations.AddConstraint(
            model_name="teamusage",
            constraint=models.CheckConstraint(
                condition=models.Q(("seconds__gte", 0)), name="training_teamusage_positive"
            ),
        ),
    ]
