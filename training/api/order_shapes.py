"""Shapes of the API that orders share: what each of them tells, whatever it is for, and those that draw pictures."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from accounts.api.base import ObjectSerializer
from training.api.serializers import error_of, queue_of
from training.api.shapes import ERROR, QUEUE
from training.models import TrainingJob
from training.states import JobState

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


def order_fields(*, about: tuple[str, ...] = (), own: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields of an order as they are shown: `about` beside its project, `own` after its state.

    Each order gives `progress` itself.
    """
    return (
        "id",
        "object",
        "project",
        *about,
        "status",
        "desired",
        *own,
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


# No docstrings on these two: the schema would show them as the description of every order.
class OrderSerializer(ObjectSerializer):
    test = serializers.BooleanField(source="is_test", read_only=True)
    status = serializers.ChoiceField(JobState.choices, source="state", read_only=True)
    project = serializers.CharField(source="project.uid", read_only=True)
    created_by = serializers.CharField(source="created_by.uid", read_only=True, default=None, allow_null=True)
    queue = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    urls = serializers.SerializerMethodField()

    class Meta:
        model = TrainingJob
        fields: tuple[str, ...] = ()

    @extend_schema_field(QUEUE)
    def get_queue(self, row: TrainingJob) -> dict[str, Any] | None:
        return queue_of(row)

    @extend_schema_field(ERROR)
    def get_error(self, row: TrainingJob) -> dict[str, Any] | None:
        return error_of(row)

    @extend_schema_field(serializers.DictField(child=serializers.URLField()))
    def get_urls(self, row: TrainingJob) -> dict[str, str]:
        address = self.address(f"{self.object_name}-detail", row.uid)
        parts = ("events", "stream", "cancel", "pause", "resume")
        return {"self": address, **{part: f"{address}/{part}" for part in parts}}


class DrawnOrderSerializer(OrderSerializer):
    base_model = serializers.CharField(source="foundation_model.key", read_only=True)
    settings = serializers.SerializerMethodField()
    pictures = serializers.SerializerMethodField()

    @extend_schema_field(serializers.DictField())
    def get_settings(self, row: TrainingJob) -> dict[str, Any]:
        """Give the order without its LoRAs."""
        return {key: value for key, value in row.spec.items() if key not in ("base_model", "mixes")}

    @extend_schema_field(PICTURES)
    def get_pictures(self, row: TrainingJob) -> list[dict[str, Any]]:
        """List what is drawn so far, by mix, prompt and seed; an evaluation has a mix for the base and each file."""
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
