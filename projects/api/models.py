"""`/models` and `/model_versions`: what trainings produced."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.roles import Can
from core.errors import NotFound
from projects import selectors
from projects.api.projects import Listed, Shown
from projects.api.serializers import LoraModelSerializer, LoraVersionSerializer
from projects.serving import serve_download


class ModelViewSet(Listed):
    can = {"list": Can.MODEL_VIEW, "retrieve": Can.MODEL_VIEW, "versions": Can.MODEL_VIEW}
    serializer_class = LoraModelSerializer
    filters = ("project",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = selectors.lora_models(actor)
        project = self.request.query_params.get("project") if self.action == "list" else None
        return rows.filter(project__uid=project) if project else rows

    @extend_schema(
        parameters=[OpenApiParameter("project", OpenApiTypes.STR, description="Only those of this project.")]
    )
    def list(self, request: Request) -> Response:
        return super().list(request)

    @extend_schema(operation_id="models_versions_list", responses=LoraVersionSerializer(many=True))
    @action(detail=True)
    def versions(self, request: Request, uid: str) -> Response:
        """List the versions of a model, the newest first."""
        return self.page(selectors.lora_versions(self.actor, self.get_object()), LoraVersionSerializer)


class ModelVersionViewSet(Shown):
    can = {"retrieve": Can.MODEL_VIEW, "download": Can.WEIGHTS_DOWNLOAD}
    serializer_class = LoraVersionSerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return selectors.lora_versions(actor)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "file", OpenApiTypes.STR, description="Id of one of the version's files; else the final one."
            )
        ],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, 302: None},
    )
    @action(detail=True)
    def download(self, request: Request, uid: str) -> HttpResponseBase:
        """Download the `.safetensors` (kohya layout: A1111, Forge, ComfyUI and diffusers read it)."""
        wanted = request.query_params.get("file", "")
        files = [file for file in self.get_object().files.all() if not wanted or file.uid == wanted]
        if not files:
            raise NotFound
        chosen = selectors.lora_file(self.actor, files[0].uid)
        return serve_download(request._request, chosen.blob, chosen.filename)
