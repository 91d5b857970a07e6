"""Shapes of the API for pictures: what is ordered (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, ObjectSerializer, StrictSerializer, Whole
from projects.api.serializers import example
from training.api.serializers import error_of, queue_of
from training.api.shapes import ERROR, QUEUE
from training.engine.fields import LONGEST_TEXT, MOST_LINES
from training.engine.generation import FIELDS, MOST_LORAS, MOST_MIXES
from training.models import TrainingJob
from training.states import JobState


class GenerationQuery(ListQuery):
    project = serializers.CharField(max_length=40, required=False, help_text="Only those of this project.")
    status = Choice(JobState.choices, required=False, help_text="Only those in this state.")


class UseInput(StrictSerializer):
    """A LoRA that acts: a model version, how strongly, and from which of its files."""

    model_version = serializers.CharField(max_length=40)
    strength = serializers.FloatField(required=False, default=1.0, min_value=-4.0, max_value=4.0)
    file = serializers.CharField(
        max_length=40, required=False, default="", allow_blank=True, help_text="Left out, the finished file."
    )


def _whole(name: str) -> Whole:
    info = FIELDS[f"/{name}"]
    return Whole(
        required=False,
        min_value=int(info.minimum or 0),
        max_value=int(info.maximum or 0),
        help_text=info.help,
    )


@example(
    "One LoRA at two strengths",
    prompts=["a lighthouse, inkstyle"],
    mixes=[
        [{"model_version": "mdv_01jd3v7k2m0000000000000000", "strength": 0.6}],
        [{"model_version": "mdv_01jd3v7k2m0000000000000000", "strength": 1.0}],
    ],
    count=2,
    seed=7,
)
class GenerationInput(StrictSerializer):
    """An order of pictures: every prompt, with each seed, under each mix; an empty mix is the base model alone."""

    prompts = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_TEXT), min_length=1, max_length=MOST_LINES
    )
    mixes = serializers.ListField(
        child=serializers.ListField(child=UseInput(), max_length=MOST_LORAS),
        min_length=1,
        max_length=MOST_MIXES,
        required=False,
        default=lambda: [[]],
    )
    base_model = serializers.CharField(
        max_length=60, required=False, help_text="Needed where no LoRA says which."
    )
    project = serializers.CharField(
        max_length=40, required=False, help_text="Left out, that of the first LoRA."
    )
    negative = serializers.CharField(max_length=LONGEST_TEXT, required=False, allow_blank=True)
    seed = _whole("seed")
    count = _whole("count")
    width = _whole("width")
    height = _whole("height")
    steps = _whole("steps")
    guidance = serializers.FloatField(required=False, min_value=1.0, max_value=50.0)


USE = inline_serializer(
    "GenerationUse",
    {
        "model_version": serializers.CharField(),
        "file": serializers.CharField(),
        "strength": serializers.FloatField(),
    },
    many=True,
)
PICTURES = inline_serializer(
    "GenerationPicture",
    {
        "id": serializers.CharField(),
        "mix": serializers.IntegerField(help_text="Which of `mixes`, from 0."),
        "prompt": serializers.CharField(),
        "seed": serializers.IntegerField(),
        "picture": serializers.URLField(),
    },
    many=True,
)


class GenerationSerializer(ObjectSerializer):
    object_name = "generation"

    test = serializers.BooleanField(source="is_test", read_only=True)
    status = serializers.ChoiceField(JobState.choices, source="state", read_only=True)
    project = serializers.CharField(source="project.uid", read_only=True)
    base_model = serializers.CharField(source="foundation_model.key", read_only=True)
    created_by = serializers.CharField(source="created_by.uid", read_only=True, default=None, allow_null=True)
    settings = serializers.SerializerMethodField()
    mixes = serializers.SerializerMethodField()
    pictures = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()
    queue = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    urls = serializers.SerializerMethodField()

    class Meta:
        model = TrainingJob
        fields = (
            "id",
            "object",
            "project",
            "status",
            "desired",
            "base_model",
            "settings",
            "mixes",
            "pictures",
            "progress",
            "queue",
            "error",
            "rest_reason",
            "last_seq",
            "test",
            "urls",
            "created_by",
            "created_at",
            "started_at",
            "finished_at",
        )

    @extend_schema_field(serializers.DictField())
    def get_settings(self, row: TrainingJob) -> dict[str, Any]:
        """Give the order without its LoRAs."""
        return {key: value for key, value in row.spec.items() if key not in ("base_model", "mixes")}

    @extend_schema_field(serializers.ListField(child=USE))
    def get_mixes(self, row: TrainingJob) -> list[list[dict[str, Any]]]:
        return [
            [
                {"model_version": use["version"], "file": use["file"], "strength": use["strength"]}
                for use in mix
            ]
            for mix in row.spec["mixes"]
        ]

    @extend_schema_field(PICTURES)
    def get_pictures(self, row: TrainingJob) -> list[dict[str, Any]]:
        """List what is drawn so far, in the order of mixes, prompts and seeds."""
        of_mix = len(row.spec["prompts"]) * row.spec["count"]
        return [
            {
                "id": sample.uid,
                "mix": sample.prompt_index // of_mix,
                "prompt": sample.prompt,
                "seed": sample.seed,
                "picture": self.address("sample-picture", sample.uid),
            }
            for sample in row.samples.all()
        ]

    @extend_schema_field(
        inline_serializer(
            "GenerationProgress", {"drawn": serializers.IntegerField(), "total": serializers.IntegerField()}
        )
    )
    def get_progress(self, row: TrainingJob) -> dict[str, int]:
        return {"drawn": row.step, "total": row.total_steps}

    @extend_schema_field(QUEUE)
    def get_queue(self, row: TrainingJob) -> dict[str, Any] | None:
        return queue_of(row)

    @extend_schema_field(ERROR)
    def get_error(self, row: TrainingJob) -> dict[str, Any] | None:
        return error_of(row)

    @extend_schema_field(serializers.DictField(child=serializers.URLField()))
    def get_urls(self, row: TrainingJob) -> dict[str, str]:
        address = self.address("generation-detail", row.uid)
        parts = ("events", "stream", "cancel", "pause", "resume")
        return {"self": address, **{part: f"{address}/{part}" for part in parts}}
