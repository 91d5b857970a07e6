"""`/models` and `/model_versions`: what trainings produced."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed, ListQuery, Shown
from accounts.roles import Can
from core.errors import NotFound
from projects import selectors
from projects.api.serializers import (
    FOUND_ELSEWHERE,
    DownloadQuery,
    InProjectQuery,
    LoraModelChange,
    LoraModelSerializer,
    LoraVersionSerializer,
)
from projects.services.loras import change_model, delete_model, delete_version
from projects.serving import serve_download


class ModelViewSet(Listed):
    can = {
        "list": Can.MODEL_VIEW,
        "retrieve": Can.MODEL_VIEW,
        "partial_update": Can.MODEL_EDIT,
        "destroy": Can.MODEL_EDIT,
        "versions": Can.MODEL_VIEW,
    }
    serializer_class = LoraModelSerializer
    queries: ClassVar[dict[str, Any]] = {"list": InProjectQuery, "versions": ListQuery}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = selectors.lora_models(actor)
        project = self.query.get("project") if self.action == "list" else None
        return rows.filter(project__uid=project) if project else rows

    @extend_schema(request=LoraModelChange, responses=LoraModelSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        change_model(actor=self.actor, uid=uid, **self.input(LoraModelChange))
        return self.shown(uid)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        """Delete a model with every version, file and sample of it; trainings stay."""
        delete_model(actor=self.actor, uid=uid)
        return Response(status=204)

    @extend_schema(operation_id="models_versions_list", responses=LoraVersionSerializer(many=True))
    @action(detail=True)
    def versions(self, request: Request, uid: str) -> Response:
        """List the versions of a model, the newest first."""
        return self.page(selectors.lora_versions(self.actor, self.get_object()), LoraVersionSerializer)


class ModelVersionViewSet(Shown):
    can = {"retrieve": Can.MODEL_VIEW, "destroy": Can.MODEL_EDIT, "download": Can.WEIGHTS_DOWNLOAD}
    serializer_class = LoraVersionSerializer
    queries: ClassVar[dict[str, Any]] = {"download": DownloadQuery}
    binary = ("download",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return selectors.lora_versions(actor)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        """Delete one version with its files and samples; the others keep their numbers."""
        delete_version(actor=self.actor, uid=uid)
        return Response(status=204)

    @extend_schema(responses={302: OpenApiResponse(description=FOUND_ELSEWHERE)})
    @action(detail=True)
    def download(self, request: Request, uid: str) -> HttpResponseBase:
        """Download the `.safetensors` (kohya layout: A1111, Forge, ComfyUI and diffusers read it)."""
        wanted = self.query.get("file", "")
        files = [file for file in self.get_object().files.all() if not wanted or file.uid == wanted]
        if not files:
            raise NotFound
        chosen = selectors.lora_file(self.actor, files[0].uid)
        return serve_download(chosen.blob, chosen.filename)
