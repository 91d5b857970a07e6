"""Shapes of the API for pictures: what is ordered (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, StrictSerializer, Whole
from projects.api.serializers import example
from training.api.order_shapes import DrawnOrderSerializer, OrderSerializer, order_fields
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


class GenerationSerializer(DrawnOrderSerializer):
    object_name = "generation"

    mixes = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()

    class Meta(OrderSerializer.Meta):
        fields = order_fields(own=("base_model", "settings", "mixes", "pictures"))

    @extend_schema_field(serializers.ListField(child=USE))
    def get_mixes(self, row: TrainingJob) -> list[list[dict[str, Any]]]:
        return [
            [
                {"model_version": use["version"], "file": use["file"], "strength": use["strength"]}
                for use in mix
            ]
            for mix in row.spec["mixes"]
        ]

    @extend_schema_field(
        inline_serializer(
            "GenerationProgress", {"drawn": serializers.IntegerField(), "total": serializers.IntegerField()}
        )
    )
    def get_progress(self, row: TrainingJob) -> dict[str, int]:
        return {"drawn": row.step, "total": row.total_steps}
