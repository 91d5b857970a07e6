"""Parts of a training's answer that are objects of their own."""

from __future__ import annotations

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

from training.states import WaitsFor

PROGRESS = inline_serializer(
    "TrainingProgress",
    {
        "step": serializers.IntegerField(),
        "total_steps": serializers.IntegerField(),
        "epoch": serializers.IntegerField(),
        "percent": serializers.IntegerField(),
        "loss": serializers.FloatField(allow_null=True),
        "steps_per_second": serializers.FloatField(allow_null=True),
        "eta_seconds": serializers.FloatField(allow_null=True),
        "phase_done": serializers.IntegerField(),
        "phase_total": serializers.IntegerField(),
    },
)
ERROR = inline_serializer(
    "TrainingError",
    {
        "code": serializers.CharField(),
        "category": serializers.ChoiceField(["user", "platform", "capacity"]),
        "message": serializers.CharField(),
        "hint": serializers.CharField(allow_null=True),
        "patch": serializers.DictField(allow_null=True),
    },
    allow_null=True,
)
OUTPUT = inline_serializer(
    "TrainingOutput",
    {"model": serializers.CharField(), "model_version": serializers.CharField()},
    allow_null=True,
)


QUEUE = inline_serializer(
    "TrainingQueue",
    {
        "place": serializers.IntegerField(help_text="1 is next."),
        "waits_for": serializers.ChoiceField(WaitsFor.choices),
        "expected_start": serializers.DateTimeField(
            allow_null=True, help_text="As likely too early as too late; null where it cannot be foreseen."
        ),
        "latest_start": serializers.DateTimeField(allow_null=True, help_text="Nine of ten start before."),
        "gpu_gb": serializers.IntegerField(
            help_text="Memory of the GPU it needs; 0 where a processor will do."
        ),
    },
    allow_null=True,
)

FIGURE = {
    "type": ["object", "null"],
    "properties": {"base": {"type": "number"}, "lora": {"type": "number"}},
    "required": ["base", "lora"],
}
EVALUATION = {
    "type": ["object", "null"],
    "description": "Figures of held-out pictures, without the LoRA (`base`) and with it.",
    "properties": {
        "held_out_loss": FIGURE,
        "style_distance": FIGURE,
        "content_score": FIGURE,
        "images": {"type": "integer"},
    },
    "required": ["held_out_loss", "style_distance", "content_score", "images"],
}
