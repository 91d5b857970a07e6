"""Shapes of the API for captions: what is ordered (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, StrictSerializer, Whole
from projects.api.serializers import example
from training.api.order_shapes import OrderSerializer, order_fields
from training.engine.captioning import FIELDS
from training.models import CaptionMode, TrainingJob
from training.states import JobState

_LONGEST = FIELDS["/longest"]


class CaptioningQuery(ListQuery):
    dataset = serializers.CharField(max_length=40, required=False, help_text="Only those of this dataset.")
    status = Choice(JobState.choices, required=False, help_text="Only those in this state.")


@example("Tags after what is there", captioner="colours", mode="append", longest=12)
class CaptioningInput(StrictSerializer):
    """An order for captions. Excluded pictures are left out, and what a person writes meanwhile stays."""

    captioner = serializers.CharField(max_length=60, help_text="The id of one of `/captioners`.")
    items = serializers.ListField(
        child=serializers.CharField(max_length=40),
        required=False,
        max_length=20_000,
        help_text="Ids of pictures; left out, all pictures of the dataset.",
    )
    mode = Choice(
        CaptionMode.choices,
        required=False,
        default=CaptionMode.EMPTY.value,
        help_text="What to do with captions that are there already.",
    )
    longest = Whole(
        required=False,
        min_value=int(_LONGEST.minimum or 0),
        max_value=int(_LONGEST.maximum or 0),
        help_text="Words of the longest caption (default 30).",
    )


class CaptionerResult(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()


class CaptioningSerializer(OrderSerializer):
    object_name = "captioning"

    test = serializers.BooleanField(
        source="is_test", read_only=True, help_text="Simulated: made with a test key; no caption was changed."
    )
    dataset = serializers.CharField(source="spec.dataset", read_only=True)
    captioner = serializers.CharField(source="spec.captioner", read_only=True)
    mode = serializers.ChoiceField(CaptionMode.choices, source="spec.mode", read_only=True)
    longest = serializers.IntegerField(source="spec.engine.longest", read_only=True)
    progress = serializers.SerializerMethodField()

    class Meta(OrderSerializer.Meta):
        fields = order_fields(about=("dataset",), own=("captioner", "mode", "longest"))

    @extend_schema_field(
        inline_serializer(
            "CaptioningProgress",
            {
                "done": serializers.IntegerField(),
                "total": serializers.IntegerField(),
                "written": serializers.IntegerField(),
                "kept": serializers.IntegerField(help_text="A person changed these meanwhile."),
                "left": serializers.IntegerField(help_text="Excluded meanwhile, or nothing to say."),
            },
        )
    )
    def get_progress(self, row: TrainingJob) -> dict[str, int]:
        counts: Any = row  # annotated: see `training.captionings`
        return {
            "done": row.step,
            "total": row.total_steps,
            "written": counts.written,
            "kept": counts.kept,
            "left": counts.left,
        }
