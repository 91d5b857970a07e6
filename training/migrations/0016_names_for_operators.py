"""Name jobs, attempts, workers and base models, with their fields, in the operator's language; no table changes."""

from __future__ import annotations

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

from core.naming import NamesOnly, named


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0007_kept_version_numbers"),
        ("training", "0015_hold_for"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        NamesOnly(
            state_operations=[
                migrations.AlterModelOptions(
                    name="attempt",
                    options={
                        "base_manager_name": "unscoped",
                        "default_manager_name": "unscoped",
                        "ordering": ["fence"],
                        "verbose_name": "attempt",
                        "verbose_name_plural": "attempts",
                    },
                ),
                migrations.AlterModelOptions(
                    name="foundationmodel",
                    options={
                        "ordering": ["name"],
                        "verbose_name": "base model",
                        "verbose_name_plural": "base models",
                    },
                ),
                migrations.AlterModelOptions(
                    name="trainingjob",
                    options={
                        "base_manager_name": "unscoped",
                        "default_manager_name": "unscoped",
                        "verbose_name": "job",
                        "verbose_name_plural": "jobs",
                    },
                ),
                migrations.AlterModelOptions(
                    name="worker",
                    options={"verbose_name": "worker", "verbose_name_plural": "workers"},
                ),
                *named(
                    "attempt",
                    ended_at=models.DateTimeField(null=True, verbose_name="ended at"),
                    fence=models.PositiveIntegerField(verbose_name="fence"),
                    first_step=models.PositiveIntegerField(default=0, verbose_name="first step"),
                    last_step=models.PositiveIntegerField(default=0, verbose_name="last step"),
                    outcome=models.CharField(blank=True, max_length=20, verbose_name="outcome"),
                    started_at=models.DateTimeField(verbose_name="started at"),
                    worker=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="training.worker",
                        verbose_name="worker",
                    ),
                ),
                *named(
                    "foundationmodel",
                    description=models.CharField(blank=True, max_length=400, verbose_name="description"),
                    family=models.CharField(max_length=40, verbose_name="family"),
                    is_demo=models.BooleanField(default=False, verbose_name="is demo"),
                    key=models.SlugField(max_length=60, unique=True, verbose_name="key"),
                    prompts=django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200),
                        blank=True,
                        default=list,
                        size=None,
                        verbose_name="prompts",
                    ),
                    sha256=models.CharField(max_length=64, verbose_name="sha256"),
                ),
                *named(
                    "trainingjob",
                    crashes=models.PositiveSmallIntegerField(default=0, verbose_name="crashes"),
                    created_by=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="created by",
                    ),
                    dataset_version=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="trainings",
                        to="projects.datasetversion",
                        verbose_name="dataset version",
                    ),
                    desired=models.CharField(
                        blank=True,
                        choices=[
                            ("cancel", "Cancel"),
                            ("stop", "Stop and keep"),
                            ("pause", "Pause"),
                            ("preempt", "Make room"),
                            ("yield", "Let short work pass"),
                        ],
                        max_length=10,
                        verbose_name="desired",
                    ),
                    epoch=models.PositiveIntegerField(default=0, verbose_name="epoch"),
                    error_category=models.CharField(blank=True, max_length=12, verbose_name="error category"),
                    error_code=models.CharField(blank=True, max_length=60, verbose_name="error code"),
                    error_hint=models.TextField(blank=True, verbose_name="error hint"),
                    error_message=models.TextField(blank=True, verbose_name="error message"),
                    error_patch=models.JSONField(null=True, verbose_name="error patch"),
                    estimated_seconds=models.PositiveIntegerField(
                        default=0, verbose_name="estimated seconds"
                    ),
                    eta_seconds=models.FloatField(null=True, verbose_name="seconds left"),
                    evaluation=models.JSONField(null=True, verbose_name="evaluation"),
                    expected_start=models.DateTimeField(null=True, verbose_name="expected start"),
                    fence=models.PositiveIntegerField(default=0, verbose_name="fence"),
                    finished_at=models.DateTimeField(null=True, verbose_name="finished at"),
                    foundation_model=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="trainings",
                        to="training.foundationmodel",
                        verbose_name="base model",
                    ),
                    gpu_gb=models.PositiveSmallIntegerField(
                        db_default=0, default=0, verbose_name="GPU memory (GB)"
                    ),
                    gpus=models.PositiveSmallIntegerField(db_default=1, default=1, verbose_name="GPUs"),
                    hard_cap_seconds=models.PositiveIntegerField(null=True, verbose_name="hard cap seconds"),
                    held_node=models.CharField(
                        blank=True, db_default="", default="", max_length=120, verbose_name="slots held on"
                    ),
                    held_since=models.DateTimeField(null=True, verbose_name="slots held since"),
                    is_express=models.BooleanField(db_default=False, default=False, verbose_name="express"),
                    is_short=models.BooleanField(db_default=False, default=False, verbose_name="short work"),
                    is_test=models.BooleanField(
                        db_default=False, default=False, verbose_name="of a test key"
                    ),
                    kind=models.CharField(
                        choices=[
                            ("training", "Training"),
                            ("generation", "Pictures"),
                            ("captioning", "Captions"),
                            ("evaluation", "Evaluation"),
                        ],
                        db_default="training",
                        default="training",
                        max_length=12,
                        verbose_name="kind",
                    ),
                    last_seq=models.PositiveIntegerField(default=0, verbose_name="last seq"),
                    latest_start=models.DateTimeField(null=True, verbose_name="latest start"),
                    lease_until=models.DateTimeField(null=True, verbose_name="lease until"),
                    line_at=models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="in line since"
                    ),
                    lora_version=models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="projects.loraversion",
                        verbose_name="model version",
                    ),
                    loss=models.FloatField(null=True, verbose_name="loss"),
                    metadata=models.JSONField(
                        db_default=models.Value({}, models.JSONField()), default=dict, verbose_name="metadata"
                    ),
                    phase=models.CharField(blank=True, max_length=20, verbose_name="phase"),
                    phase_done=models.PositiveIntegerField(default=0, verbose_name="done of the phase"),
                    phase_total=models.PositiveIntegerField(default=0, verbose_name="size of the phase"),
                    place=models.PositiveIntegerField(null=True, verbose_name="place"),
                    project=models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="trainings",
                        to="projects.project",
                        verbose_name="project",
                    ),
                    queued_at=models.DateTimeField(verbose_name="queued at"),
                    rate=models.FloatField(db_default=1.0, default=1.0, verbose_name="rate"),
                    rest_reason=models.CharField(
                        blank=True,
                        choices=[
                            ("insufficient_credits", "The team's GPU time is used up."),
                            ("spend_limit_reached", "The team's spend limit is reached."),
                            ("hard_cap_reached", "The cap of this training is reached."),
                        ],
                        db_default="",
                        max_length=24,
                        verbose_name="rest reason",
                    ),
                    retry_of=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retries",
                        to="training.trainingjob",
                        verbose_name="retry of",
                    ),
                    run_after=models.DateTimeField(null=True, verbose_name="not before"),
                    simulate=models.CharField(
                        blank=True,
                        choices=[
                            ("success", "Success"),
                            ("out_of_memory", "Out of memory"),
                            ("diverged", "Diverged"),
                            ("preempted", "Preempted, then success"),
                        ],
                        db_default="",
                        max_length=20,
                        verbose_name="simulated end",
                    ),
                    spec=models.JSONField(verbose_name="recipe"),
                    spec_sha256=models.CharField(max_length=64, verbose_name="spec sha256"),
                    started_at=models.DateTimeField(null=True, verbose_name="started at"),
                    state=models.CharField(
                        choices=[
                            ("queued", "Waiting"),
                            ("starting", "Starting"),
                            ("running", "Training"),
                            ("stopping", "Stopping"),
                            ("finalizing", "Finishing"),
                            ("paused", "Paused"),
                            ("succeeded", "Done"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                            ("stopped", "Stopped and kept"),
                        ],
                        default="queued",
                        max_length=10,
                        verbose_name="state",
                    ),
                    step=models.PositiveIntegerField(default=0, verbose_name="step"),
                    steps_per_second=models.FloatField(null=True, verbose_name="steps per second"),
                    threads=models.PositiveSmallIntegerField(
                        db_default=0, default=0, verbose_name="CPU threads"
                    ),
                    total_steps=models.PositiveIntegerField(default=0, verbose_name="total steps"),
                    waits_for=models.CharField(
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
                        verbose_name="waits for",
                    ),
                    worker=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="jobs",
                        to="training.worker",
                        verbose_name="worker",
                    ),
                ),
                *named(
                    "worker",
                    crashes_in_a_row=models.PositiveSmallIntegerField(
                        db_default=0, default=0, verbose_name="crashes in a row"
                    ),
                    lent_to=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="training.trainingjob",
                        verbose_name="lent to",
                    ),
                    memory_mb=models.PositiveIntegerField(default=0, verbose_name="GPU memory (MB)"),
                    name=models.CharField(max_length=120, verbose_name="name"),
                    node=models.CharField(
                        blank=True, db_default="", default="", max_length=120, verbose_name="machine"
                    ),
                    number=models.PositiveSmallIntegerField(
                        db_default=0, default=0, verbose_name="number on the machine"
                    ),
                    reserved_for=models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="training.trainingjob",
                        verbose_name="reserved for",
                    ),
                    reserved_until=models.DateTimeField(null=True, verbose_name="reserved until"),
                    seen_at=models.DateTimeField(verbose_name="seen at"),
                    started_at=models.DateTimeField(auto_now_add=True, verbose_name="started at"),
                    state=models.CharField(
                        choices=[
                            ("idle", "Idle"),
                            ("busy", "Busy"),
                            ("draining", "Draining"),
                            ("quarantined", "Quarantined"),
                            ("lost", "Lost"),
                        ],
                        default="idle",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
            ]
        ),
    ]
