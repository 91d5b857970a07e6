"""Shapes of the API for the estimate of a training: what is asked (strict) and what it would take."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.api.base import StrictSerializer
from projects.api.serializers import example
from training.advisor.templates import TemplateKey
from training.api.serializers import gpus_field, priority_field
from training.engine.fields import MOST_LINES


@example(
    "A style",
    dataset_version="dsv_01jd3v7k2m0000000000000000",
    base_model="tiny",
    template="style",
)
class EstimateInput(StrictSerializer):
    """What to estimate: the same as a new training, whose name and trigger do not matter."""

    dataset_version = serializers.CharField(max_length=40)
    base_model = serializers.CharField(max_length=60)
    template = serializers.ChoiceField(TemplateKey.choices)
    trigger = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    settings = serializers.DictField(required=False, default=dict)
    name = serializers.CharField(max_length=80, required=False, default="Estimate")
    prompts = serializers.ListField(
        child=serializers.CharField(max_length=500), required=False, max_length=MOST_LINES
    )
    priority = priority_field()
    gpus = gpus_field()


class EstimateResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    pictures = serializers.IntegerField(help_text="Trained on; held-out ones are not counted.")
    held_out = serializers.IntegerField()
    steps = serializers.IntegerField()
    epochs = serializers.IntegerField()
    steps_per_epoch = serializers.IntegerField()
    seconds = serializers.IntegerField()
    measured = serializers.BooleanField(help_text="Whether the time comes from your earlier trainings.")
    rate = serializers.FloatField(
        help_text="What each second is charged as: 1 for each GPU, more if it is express."
    )
    charged_seconds = serializers.IntegerField(
        help_text="GPU time it would be charged; 0 with a test key and on plans that do not meter GPU time."
    )
    held_seconds = serializers.IntegerField(
        help_text="GPU time its start reserves; what is not needed comes back at the end."
    )
    memory_mb = serializers.IntegerField(help_text="0 when the base model's need is not known.")
    fits = serializers.BooleanField()
