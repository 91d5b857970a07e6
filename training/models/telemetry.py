"""What a running job reports: events with a dense sequence number, metric chunks, samples, checkpoints."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel

CHUNK_POINTS = 1000
# Of each chunk so many points are kept in the outline, its lowest and highest among them; of so many chunks in a row.
OUTLINE_POINTS = 8
OUTLINE_CHUNKS = CHUNK_POINTS // OUTLINE_POINTS


class JobEvent(TenantModel):
    """One event as the browser gets it. `seq` is dense per job: a client sees a gap at once."""

    job = models.ForeignKey("training.TrainingJob", on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    fence = models.PositiveIntegerField()
    type = models.CharField(max_length=20)
    at = models.DateTimeField()
    data = models.JSONField()

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_jobevent", "job"),
            models.UniqueConstraint(fields=["job", "seq"], name="training_jobevent_seq"),
        ]
        ordering = ["seq"]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.seq} {self.type}"


class MetricChunk(TenantModel):
    """Up to 1000 points of one curve. Rewritten while open: one row per chunk, not one per point."""

    job = models.ForeignKey("training.TrainingJob", on_delete=models.CASCADE, related_name="metric_chunks")
    metric = models.CharField(max_length=40)
    chunk = models.PositiveIntegerField()
    steps = ArrayField(models.IntegerField())
    values = ArrayField(models.FloatField())

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_metricchunk", "job"),
            models.UniqueConstraint(fields=["job", "metric", "chunk"], name="training_metricchunk_once"),
        ]
        ordering = ["metric", "chunk"]

    def __str__(self) -> str:
        return f"{self.job_id} {self.metric} #{self.chunk}"


class MetricOutline(TenantModel):
    """A few points of each finished chunk of a curve, for a look at the whole of a long one.

    One row for `OUTLINE_CHUNKS` chunks, so that a million steps are eight rows a curve.
    """

    job = models.ForeignKey("training.TrainingJob", on_delete=models.CASCADE, related_name="metric_outlines")
    metric = models.CharField(max_length=40)
    part = models.PositiveIntegerField()
    steps = ArrayField(models.IntegerField())
    values = ArrayField(models.FloatField())

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_metricoutline", "job"),
            models.UniqueConstraint(fields=["job", "metric", "part"], name="training_metricoutline_once"),
        ]
        ordering = ["metric", "part"]

    def __str__(self) -> str:
        return f"{self.job_id} {self.metric} outline {self.part}"


class Sample(TenantModel):
    """A picture drawn during a training, at fixed prompt and seed."""

    uid = UidField("smp")
    job = models.ForeignKey("training.TrainingJob", on_delete=models.CASCADE, related_name="samples")
    blob = models.ForeignKey("projects.Blob", on_delete=models.PROTECT, related_name="+")
    step = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    prompt_index = models.PositiveSmallIntegerField()
    prompt = models.CharField(max_length=500)
    seed = models.BigIntegerField()
    with_lora = models.BooleanField(default=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_sample", "job", "blob"),
            models.UniqueConstraint(
                fields=["job", "step", "prompt_index", "with_lora"], name="training_sample_once"
            ),
        ]
        ordering = ["step", "prompt_index"]

    def __str__(self) -> str:
        return f"{self.prompt} @ {self.step}"


class Checkpoint(TenantModel):
    """A point to resume from (`state_key`: a folder in storage) and the file a person can download."""

    uid = UidField("ckp")
    job = models.ForeignKey("training.TrainingJob", on_delete=models.CASCADE, related_name="checkpoints")
    fence = models.PositiveIntegerField()
    step = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    # Empty once pruned: only the newest points are kept for resuming, every export for download.
    state_key = models.CharField(max_length=300, blank=True)
    export = models.ForeignKey("projects.Blob", null=True, on_delete=models.PROTECT, related_name="+")
    is_final = models.BooleanField(default=False)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_checkpoint", "job", "export"),
            models.UniqueConstraint(fields=["job", "step", "is_final"], name="training_checkpoint_once"),
        ]
        ordering = ["step"]

    def __str__(self) -> str:
        return f"{self.job_id} @ {self.step}"
