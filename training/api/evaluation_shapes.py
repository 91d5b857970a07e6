"""Shapes of the API for evaluations: what is ordered (strict) and what is found."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, StrictSerializer, Whole
from projects.api.serializers import example
from training.advisor.best_epoch import Verdict, best_epoch
from training.api.order_shapes import DrawnOrderSerializer, OrderSerializer, order_fields
from training.engine.fields import LONGEST_TEXT
from training.findings import Finding, Findings
from training.models import TrainingJob
from training.services.evaluations import MOST_PROMPTS, MOST_SEEDS
from training.states import JobState


class EvaluationQuery(ListQuery):
    project = serializers.CharField(max_length=40, required=False, help_text="Only those of this project.")
    model_version = serializers.CharField(
        max_length=40, required=False, help_text="Only those of this model version."
    )
    status = Choice(JobState.choices, required=False, help_text="Only those in this state.")


@example(
    "Every file of a model version",
    model_version="mdv_01jd3v7k2m0000000000000000",
    prompts=["a lighthouse, inkstyle", "a fox, inkstyle"],
    seeds=2,
)
class EvaluationInput(StrictSerializer):
    """An order to measure every file of a model version on the same prompts and seeds."""

    model_version = serializers.CharField(max_length=40)
    prompts = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_TEXT),
        min_length=1,
        max_length=MOST_PROMPTS,
        required=False,
        help_text="Left out, those the training drew on the way. One alone cannot show whether prompts are followed.",
    )
    seeds = Whole(
        required=False,
        min_value=1,
        max_value=MOST_SEEDS,
        help_text="Pictures of each prompt, each with its own seed. Left out, enough for eight pictures a file.",
    )


_FIGURES: dict[str, Any] = {
    "style_distance": serializers.FloatField(
        allow_null=True, help_text="Distance of colours and edges from those of the set; lower is closer."
    ),
    "content_score": serializers.FloatField(
        allow_null=True, help_text="Share of pictures in which the prompt is still recognised."
    ),
    "images": serializers.IntegerField(help_text="Pictures the figures rest on; 0 before it was measured."),
}
BASE = inline_serializer("EvaluationBase", dict(_FIGURES))
FILES = inline_serializer(
    "EvaluationFile",
    {
        "file": serializers.CharField(),
        "filename": serializers.CharField(),
        "step": serializers.IntegerField(),
        "epoch": serializers.IntegerField(),
        "final": serializers.BooleanField(),
        **_FIGURES,
    },
    many=True,
)
ADVICE = inline_serializer(
    "EvaluationAdvice",
    {
        "file": serializers.CharField(allow_null=True, help_text="Null where no file can be recommended."),
        "verdict": serializers.ChoiceField([each.value for each in Verdict]),
        "reason": serializers.CharField(),
        "warning": serializers.CharField(allow_null=True),
    },
    allow_null=True,
)


class EvaluationSerializer(DrawnOrderSerializer):
    object_name = "evaluation"

    model_version = serializers.SerializerMethodField()
    base = serializers.SerializerMethodField()
    files = serializers.SerializerMethodField()
    advice = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()

    class Meta(OrderSerializer.Meta):
        fields = order_fields(
            about=("model_version",), own=("base_model", "settings", "base", "files", "advice", "pictures")
        )

    def get_model_version(self, row: TrainingJob) -> str:
        return _findings(row).version

    @extend_schema_field(BASE)
    def get_base(self, row: TrainingJob) -> dict[str, Any]:
        """Give the figures of the base model alone."""
        return _figures(_findings(row).base)

    @extend_schema_field(FILES)
    def get_files(self, row: TrainingJob) -> list[dict[str, Any]]:
        """List the files by step; figures are null before a file was measured, and where they could not be."""
        return [
            {
                "file": each.file,
                "filename": each.name,
                "step": each.step,
                "epoch": each.epoch,
                "final": each.is_final,
                **_figures(each),
            }
            for each in _findings(row).files
        ]

    @extend_schema_field(ADVICE)
    def get_advice(self, row: TrainingJob) -> dict[str, Any] | None:
        """Say which file to use and why; null before the end."""
        if row.state != JobState.SUCCEEDED:
            return None
        advice = best_epoch(_findings(row))
        return {
            "file": advice.file.file if advice.file else None,
            "verdict": advice.verdict.value,
            "reason": advice.reason,
            "warning": advice.warning or None,
        }

    @extend_schema_field(
        inline_serializer(
            "EvaluationProgress", {"drawn": serializers.IntegerField(), "total": serializers.IntegerField()}
        )
    )
    def get_progress(self, row: TrainingJob) -> dict[str, int]:
        return {"drawn": row.step, "total": row.total_steps}


def _findings(row: TrainingJob) -> Findings:
    return Findings.from_dict(row.evaluation or {})


def _figures(found: Finding) -> dict[str, Any]:
    return {
        "style_distance": found.style_distance,
        "content_score": found.content_score,
        "images": found.images,
    }
