"""Shapes of the training API: what goes in (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, ObjectSerializer, Query, StrictSerializer, Whole
from projects.api.serializers import MetadataField, example
from training.advisor.templates import TemplateKey
from training.api.shapes import ERROR, EVALUATION, OUTPUT, PROGRESS, QUEUE
from training.engine.fields import MOST_LINES
from training.models import Checkpoint, Sample, TrainingJob
from training.queue.gang import MOST_GPUS
from training.selectors import CURVE_POINTS
from training.states import JobState, Simulated

PRIORITIES = ("standard", "express")
_CAP = "The most GPU time it may be charged; there it saves, rests, and goes on when the cap is raised."


def queue_of(row: TrainingJob) -> dict[str, Any] | None:
    """Say what a waiting job waits for, in the shape `QUEUE`."""
    if row.state != JobState.QUEUED or row.place is None:
        return None
    return {
        "place": row.place,
        "waits_for": row.waits_for,
        "expected_start": row.expected_start,
        "latest_start": row.latest_start,
        "gpu_gb": row.gpu_gb,
    }


def error_of(row: TrainingJob) -> dict[str, Any] | None:
    """Say why a job failed, in the shape `ERROR`."""
    if not row.error_code:
        return None
    return {
        "code": row.error_code,
        "category": row.error_category,
        "message": row.error_message,
        "hint": row.error_hint or None,
        "patch": row.error_patch,
    }


class TrainingQuery(ListQuery):
    project = serializers.CharField(max_length=40, required=False, help_text="Only those of this project.")
    dataset_version = serializers.CharField(max_length=40, required=False)
    status = Choice(JobState.choices, required=False, help_text="Only those in this state.")
    test = serializers.BooleanField(required=False, help_text="Only simulated ones, or only real ones.")


class EventQuery(Query):
    after = Whole(
        required=False, min_value=0, max_value=999_999_999, help_text="Only events with a higher seq."
    )


class MetricsQuery(Query):
    keys = serializers.CharField(
        max_length=400, required=False, help_text="Names of curves with commas between; left out, all."
    )
    points = Whole(
        min_value=10,
        max_value=CURVE_POINTS,
        required=False,
        help_text=f"At most about so many points of each curve, its peaks kept (default {CURVE_POINTS}).",
    )


class TrainingSerializer(ObjectSerializer):
    object_name = "training"

    test = serializers.BooleanField(
        source="is_test", read_only=True, help_text="Simulated: made with a test key, never billed."
    )
    metadata = serializers.DictField(child=serializers.CharField(), read_only=True)
    priority = serializers.ChoiceField(PRIORITIES, read_only=True)

    status = serializers.ChoiceField(JobState.choices, source="state", read_only=True)
    project = serializers.CharField(source="project.uid", read_only=True)
    dataset_version = serializers.CharField(source="dataset_version.uid", read_only=True)
    base_model = serializers.CharField(source="foundation_model.key", read_only=True)
    retry_of = serializers.CharField(source="retry_of.uid", read_only=True, default=None, allow_null=True)
    created_by = serializers.CharField(source="created_by.uid", read_only=True, default=None, allow_null=True)
    evaluation = serializers.SerializerMethodField()
    queue = serializers.SerializerMethodField()
    spec = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()
    estimate = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    output = serializers.SerializerMethodField()
    urls = serializers.SerializerMethodField()

    class Meta:
        model = TrainingJob
        fields = (
            "id",
            "object",
            "project",
            "name",
            "status",
            "desired",
            "phase",
            "base_model",
            "dataset_version",
            "template",
            "spec",
            "spec_sha256",
            "progress",
            "queue",
            "estimate",
            "evaluation",
            "error",
            "output",
            "retry_of",
            "hard_cap_seconds",
            "priority",
            "gpus",
            "rest_reason",
            "last_seq",
            "test",
            "metadata",
            "urls",
            "created_by",
            "created_at",
            "queued_at",
            "started_at",
            "finished_at",
        )

    @extend_schema_field(serializers.DictField())
    def get_spec(self, row: TrainingJob) -> dict[str, Any]:
        """Give the recipe without the places that each worker fills in."""
        return {key: value for key, value in row.spec.items() if key not in ("cache_dir", "dataset")}

    @extend_schema_field(QUEUE)
    def get_queue(self, row: TrainingJob) -> dict[str, Any] | None:
        """Tell what a waiting training waits for; null for others, and for some seconds after it was queued."""
        return queue_of(row)

    @extend_schema_field(EVALUATION)
    def get_evaluation(self, row: TrainingJob) -> dict[str, Any] | None:
        figures: dict[str, Any] | None = row.evaluation
        return figures

    @extend_schema_field(PROGRESS)
    def get_progress(self, row: TrainingJob) -> dict[str, Any]:
        return {
            "step": row.step,
            "total_steps": row.total_steps,
            "epoch": row.epoch,
            "percent": row.percent,
            "loss": row.loss,
            "steps_per_second": row.steps_per_second,
            "eta_seconds": row.eta_seconds,
            "phase_done": row.phase_done,
            "phase_total": row.phase_total,
        }

    @extend_schema_field(inline_serializer("TrainingEstimate", {"seconds": serializers.IntegerField()}))
    def get_estimate(self, row: TrainingJob) -> dict[str, int]:
        return {"seconds": row.estimated_seconds}

    @extend_schema_field(ERROR)
    def get_error(self, row: TrainingJob) -> dict[str, Any] | None:
        return error_of(row)

    @extend_schema_field(OUTPUT)
    def get_output(self, row: TrainingJob) -> dict[str, str] | None:
        version = row.lora_version
        return {"model": version.model.uid, "model_version": version.uid} if version is not None else None

    @extend_schema_field(serializers.DictField(child=serializers.URLField()))
    def get_urls(self, row: TrainingJob) -> dict[str, str]:
        address = self.address("training-detail", row.uid)
        parts = [
            "events",
            "stream",
            "metrics",
            "samples",
            "checkpoints",
            "receipt",
            "cancel",
            "stop",
            "pause",
            "resume",
            "retry",
            "clone",
        ]
        return {"self": address, **{part: f"{address}/{part}" for part in parts}}


def priority_field() -> serializers.ChoiceField:
    """Return the field that says how soon a training starts."""
    return serializers.ChoiceField(
        PRIORITIES,
        required=False,
        default="standard",
        help_text="Express starts sooner and costs more a second.",
    )


def gpus_field() -> Whole:
    """Return the field that says how many GPUs a training takes."""
    return Whole(
        required=False,
        default=1,
        min_value=1,
        max_value=MOST_GPUS,
        help_text="GPUs of one machine that share each step; each of them is charged.",
    )


@example(
    "A style",
    dataset_version="dsv_01jd3v7k2m0000000000000000",
    base_model="tiny",
    template="style",
    name="Ink style",
    trigger="inkstyle",
    settings={"training": {"steps": 200}},
    metadata={"order": "4711"},
)
class TrainingInput(StrictSerializer):
    """A new training. `settings` holds only what differs from the recommended recipe, nested or by JSON pointer."""

    dataset_version = serializers.CharField(max_length=40)
    base_model = serializers.CharField(max_length=60)
    template = serializers.ChoiceField(TemplateKey.choices)
    name = serializers.CharField(max_length=80)
    trigger = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    settings = serializers.DictField(required=False, default=dict)
    prompts = serializers.ListField(
        child=serializers.CharField(max_length=500), required=False, max_length=MOST_LINES
    )
    metadata = MetadataField(required=False)
    hard_cap_seconds = Whole(required=False, min_value=60, max_value=10_000_000, help_text=_CAP)
    priority = priority_field()
    gpus = gpus_field()
    simulate = Choice(
        Simulated.choices, required=False, default="", help_text="With a test key: how the training ends."
    )


@example("Note an order", metadata={"order": "4711"})
class TrainingChange(StrictSerializer):
    """A new name, or new notes. The recipe is frozen: clone the training to change it."""

    name = serializers.CharField(max_length=80, required=False)
    metadata = MetadataField(required=False)
    hard_cap_seconds = Whole(required=False, min_value=60, max_value=10_000_000, help_text=_CAP)


@example("Smaller batches", settings={"/training/batch_size": 1})
class RetryInput(StrictSerializer):
    """Settings to change in the new run (the `patch` of the error, for instance)."""

    settings = serializers.DictField(required=False, default=dict)


@example("Another seed", name="Ink style, seed 7", settings={"training": {"seed": 7}})
class CloneInput(StrictSerializer):
    """Settings that differ from the old run's, and a name."""

    name = serializers.CharField(max_length=80, required=False, default="")
    settings = serializers.DictField(required=False, default=dict)


class EventResult(serializers.Serializer[Any]):
    seq = serializers.IntegerField()
    type = serializers.CharField()
    at = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]


class EventPage(serializers.Serializer[Any]):
    data = EventResult(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()
    next_after = serializers.IntegerField(help_text="Send it as `after` to go on.")


class MetricsResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    training = serializers.CharField()
    series = serializers.DictField(
        child=serializers.ListField(
            child=serializers.ListField(child=serializers.FloatField(), min_length=2, max_length=2)
        ),
        help_text="By the name of the curve: [step, value], in order of steps.",
    )


class SampleSerializer(ObjectSerializer):
    object_name = "sample"

    picture = serializers.SerializerMethodField()

    class Meta:
        model = Sample
        fields = (
            "id",
            "object",
            "step",
            "epoch",
            "prompt_index",
            "prompt",
            "seed",
            "with_lora",
            "picture",
            "created_at",
        )

    def get_picture(self, row: Sample) -> str:
        return self.address("sample-picture", row.uid)


class CheckpointSerializer(ObjectSerializer):
    object_name = "checkpoint"

    sha256 = serializers.CharField(source="export.sha256", read_only=True)
    size = serializers.IntegerField(source="export.size", read_only=True)
    download = serializers.SerializerMethodField()

    class Meta:
        model = Checkpoint
        fields = (
            "id",
            "object",
            "step",
            "epoch",
            "is_final",
            "sha256",
            "size",
            "download",
            "created_at",
        )

    def get_download(self, row: Checkpoint) -> str:
        return self.address("checkpoint-download", row.uid)
