"""Shapes of webhooks in the API: what goes in (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ObjectSerializer, StrictSerializer
from notifications.events import OFFERED
from notifications.models import Delivery, DeliveryAttempt, EndpointKind, WebhookEndpoint

_TYPES = [kind.value for kind in OFFERED]


class WebhookEndpointSerializer(ObjectSerializer):
    object_name = "webhook_endpoint"

    disabled_reason = serializers.CharField(
        source="disabled_why", read_only=True, help_text="person, gone or failing; empty while it is enabled."
    )

    class Meta:
        model = WebhookEndpoint
        fields = (
            "id",
            "object",
            "url",
            "kind",
            "description",
            "event_types",
            "enabled",
            "disabled_reason",
            "failing_since",
            "old_secret_until",
            "created_at",
        )
        read_only_fields = fields


class WebhookEndpointWithSecret(WebhookEndpointSerializer):
    secret = serializers.SerializerMethodField(help_text="Shown in this answer only.")

    class Meta(WebhookEndpointSerializer.Meta):
        fields = (*WebhookEndpointSerializer.Meta.fields, "secret")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    def get_secret(self, row: Any) -> str | None:
        return str(self.context["secret"])


@extend_schema_serializer(examples=[OpenApiExample("Switch off", {"enabled": False}, request_only=True)])
class WebhookEndpointChange(StrictSerializer):
    url = serializers.CharField(max_length=500, required=False)
    kind = Choice(choices=EndpointKind.choices, required=False)
    description = serializers.CharField(max_length=120, required=False, allow_blank=True)
    event_types = serializers.ListField(
        child=Choice(choices=_TYPES),
        required=False,
        max_length=len(_TYPES),
        help_text="None of them means all.",
    )
    enabled = serializers.BooleanField(required=False)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Two events",
            {
                "url": "https://hooks.example.org/lora",
                "event_types": ["training.succeeded", "training.failed"],
            },
            request_only=True,
        )
    ]
)
class WebhookEndpointInput(WebhookEndpointChange):
    url = serializers.CharField(max_length=500)


class AttemptSerializer(serializers.ModelSerializer[Any]):
    class Meta:
        model = DeliveryAttempt
        fields = ("number", "created_at", "status_code", "answer", "error", "duration_ms")
        read_only_fields = fields


class DeliverySerializer(ObjectSerializer):
    object_name = "delivery"

    endpoint = serializers.CharField(source="endpoint.uid", read_only=True)
    event = serializers.CharField(source="event.uid", read_only=True)
    type = serializers.CharField(source="event.type", read_only=True)
    body = serializers.CharField(source="event.body", read_only=True)
    log = AttemptSerializer(many=True, read_only=True)

    class Meta:
        model = Delivery
        fields = (
            "id",
            "object",
            "endpoint",
            "event",
            "type",
            "state",
            "attempts",
            "next_try_at",
            "delivered_at",
            "status_code",
            "error",
            "body",
            "log",
            "created_at",
        )
        read_only_fields = fields
