"""`/base_models` and `/templates`: what a training can be made of. The same for every team."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import TeamViewSet
from accounts.roles import Can
from training import selectors
from training.advisor.templates import TEMPLATES
from training.models import FoundationModel


class BaseModelSerializer(serializers.ModelSerializer[FoundationModel]):
    id = serializers.CharField(source="key", read_only=True)
    object = serializers.SerializerMethodField()

    class Meta:
        model = FoundationModel
        fields = (
            "id",
            "object",
            "name",
            "family",
            "sha256",
            "licence",
            "description",
            "resolution",
            "memory_mb",
            "prompts",
            "is_demo",
        )

    def get_object(self, row: FoundationModel) -> str:
        return "base_model"


class TemplateResult(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    summary = serializers.CharField()
    captions = serializers.CharField(help_text="How to caption pictures for it.")
    fewest_pictures = serializers.IntegerField()
    ideal_pictures = serializers.ListField(child=serializers.IntegerField(), min_length=2, max_length=2)
    most_pictures = serializers.IntegerField()


class CatalogueViewSet(TeamViewSet):
    """Serve the two lists; both are short and come whole."""

    can = {"base_models": Can.TRAINING_VIEW, "templates": Can.TRAINING_VIEW}
    serializer_class = BaseModelSerializer
    pagination_class = None  # type: ignore[assignment]

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return FoundationModel.objects.none()

    @extend_schema(
        operation_id="base_models_list",
        responses=inline_serializer("BaseModelList", {"data": BaseModelSerializer(many=True)}),
    )
    def base_models(self, request: Request) -> Response:
        """List the base models that can be trained on."""
        return Response({"data": BaseModelSerializer(selectors.foundation_models(), many=True).data})

    @extend_schema(
        operation_id="templates_list",
        responses=inline_serializer("TemplateList", {"data": TemplateResult(many=True)}),
    )
    def templates(self, request: Request) -> Response:
        """List the templates: each recommends a whole recipe for one purpose."""
        rows = [
            {
                "id": template.key.value,
                "object": "template",
                "name": template.name,
                "summary": str(template.summary),
                "captions": str(template.captions),
                "fewest_pictures": template.fewest,
                "ideal_pictures": list(template.ideal),
                "most_pictures": template.most,
            }
            for template in TEMPLATES.values()
        ]
        return Response({"data": rows})
