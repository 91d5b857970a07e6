"""`/projects`, `/datasets`, `/items` and `/dataset_versions`."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import TeamViewSet
from accounts.roles import Can
from core.api.idempotency import idempotent
from core.errors import DomainError
from projects import selectors
from projects.api.serializers import (
    BulkInput,
    BulkResult,
    DatasetChange,
    DatasetInput,
    DatasetSerializer,
    DatasetVersionSerializer,
    ItemChange,
    ItemSerializer,
    ProjectChange,
    ProjectInput,
    ProjectSerializer,
)
from projects.models import Item
from projects.services.datasets import create_dataset, delete_dataset, rename_dataset
from projects.services.items import Bulk, BulkAction, change_items, delete_item, edit_item
from projects.services.projects import archive_project, change_project, create_project
from projects.services.versions import freeze_dataset
from projects.visibility import seen_by

_PROJECT = OpenApiParameter("project", OpenApiTypes.STR, description="Only those of this project.")


class Resource(TeamViewSet):
    """A viewset that pages through rows and checks input; it has no route until a subclass gives it one."""

    filters: tuple[str, ...] = ()

    def page(self, rows: QuerySet[Any], serializer: Any) -> Response:
        """Answer with one page of `rows`."""
        self.refuse_unknown_filters()
        found = self.paginate_queryset(rows)
        data = serializer(found, many=True, context=self.get_serializer_context()).data
        return self.get_paginated_response(data)

    def refuse_unknown_filters(self) -> None:
        """Answer 400 to a filter that does not exist, rather than with rows it should have left out."""
        known = {"limit", "cursor", *self.filters}
        unknown = sorted(set(self.request.query_params) - known)
        if unknown:
            error = DomainError(
                "unknown_filter", f"There is no filter {unknown[0]!r}. Known: {', '.join(sorted(known))}."
            )
            error.status = 400
            raise error

    def input(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the checked body of the request."""
        checked = serializer(data=self.request.data, context=self.get_serializer_context())
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)

    def shown(self, uid: str, status: int = 200) -> Response:
        """Answer with a row as a list would show it."""
        self.kwargs["uid"] = uid
        return Response(self.get_serializer(self.get_object()).data, status=status)


class Shown(Resource):
    """A resource whose rows can be asked for one by one."""

    def retrieve(self, request: Request, uid: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)


class Listed(Shown):
    """A resource whose rows can be listed as well."""

    def list(self, request: Request) -> Response:
        return self.page(self.get_queryset(), self.get_serializer_class())


class ProjectViewSet(Listed):
    can = {
        "list": Can.PROJECT_VIEW,
        "retrieve": Can.PROJECT_VIEW,
        "create": Can.PROJECT_EDIT,
        "partial_update": Can.PROJECT_EDIT,
    }
    serializer_class = ProjectSerializer
    filters = ("archived",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        if self.action != "list":
            return selectors.projects(actor, archived=None)
        return selectors.projects(actor, archived=self.request.query_params.get("archived") == "true")

    @extend_schema(parameters=[OpenApiParameter("archived", OpenApiTypes.BOOL)])
    def list(self, request: Request) -> Response:
        return super().list(request)

    @extend_schema(request=ProjectInput, responses={201: ProjectSerializer})
    @idempotent()
    def create(self, request: Request) -> Response:
        project = create_project(actor=self.actor, **self.input(ProjectInput))
        return self.shown(project.uid, 201)

    @extend_schema(request=ProjectChange, responses=ProjectSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        changes = self.input(ProjectChange)
        self.get_object()
        with transaction.atomic():
            if "archived" in changes:
                archive_project(actor=self.actor, uid=uid, archived=changes.pop("archived"))
            if changes:
                change_project(actor=self.actor, uid=uid, **changes)
        return self.shown(uid)


class DatasetViewSet(Listed):
    can = {
        "list": Can.DATASET_VIEW,
        "retrieve": Can.DATASET_VIEW,
        "create": Can.DATASET_EDIT,
        "partial_update": Can.DATASET_EDIT,
        "destroy": Can.DATASET_EDIT,
        "items": Can.DATASET_VIEW,
        "batch": Can.DATASET_EDIT,
        "versions": Can.DATASET_VIEW,
        "freeze": Can.DATASET_EDIT,
    }
    serializer_class = DatasetSerializer
    filters = ("project",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = selectors.datasets(actor)
        project = self.request.query_params.get("project") if self.action == "list" else None
        return rows.filter(project__uid=project) if project else rows

    @extend_schema(parameters=[_PROJECT])
    def list(self, request: Request) -> Response:
        return super().list(request)

    @extend_schema(request=DatasetInput, responses={201: DatasetSerializer})
    @idempotent()
    def create(self, request: Request) -> Response:
        values = self.input(DatasetInput)
        dataset = create_dataset(actor=self.actor, project_uid=values["project"], name=values["name"])
        return self.shown(dataset.uid, 201)

    @extend_schema(request=DatasetChange, responses=DatasetSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        rename_dataset(actor=self.actor, uid=uid, **self.input(DatasetChange))
        return self.shown(uid)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        delete_dataset(actor=self.actor, uid=uid)
        return Response(status=204)

    @extend_schema(operation_id="datasets_items_list", responses=ItemSerializer(many=True))
    @action(detail=True)
    def items(self, request: Request, uid: str) -> Response:
        """List the pictures of a dataset, the newest first."""
        rows = selectors.items(self.actor, self.get_object()).select_related("blob", "dataset")
        return self.page(rows, ItemSerializer)

    @extend_schema(request=BulkInput, responses=BulkResult)
    @action(detail=True, methods=["post"], url_path="items:batch")
    @idempotent()
    def batch(self, request: Request, uid: str) -> Response:
        """Change many pictures at once: captions, exclusion, deletion."""
        values = self.input(BulkInput)
        bulk = Bulk(
            action=BulkAction(values["action"]),
            uids=values.get("items"),
            text=values["text"],
            replacement=values["replacement"],
        )
        return Response({"changed": change_items(actor=self.actor, dataset_uid=uid, bulk=bulk)})

    @extend_schema(operation_id="datasets_versions_list", responses=DatasetVersionSerializer(many=True))
    @action(detail=True)
    def versions(self, request: Request, uid: str) -> Response:
        """List the frozen versions of a dataset."""
        rows = selectors.versions(self.actor, self.get_object()).select_related("dataset")
        return self.page(rows, DatasetVersionSerializer)

    @extend_schema(request=None, responses={201: DatasetVersionSerializer})
    @versions.mapping.post
    @idempotent()
    def freeze(self, request: Request, uid: str) -> Response:
        """Freeze the dataset as it is now; an unchanged dataset gives its old version back."""
        version = freeze_dataset(actor=self.actor, uid=uid)
        return Response(DatasetVersionSerializer(version, context=self.get_serializer_context()).data, 201)


class ItemViewSet(Shown):
    can = {
        "retrieve": Can.DATASET_VIEW,
        "partial_update": Can.DATASET_EDIT,
        "destroy": Can.DATASET_EDIT,
    }
    serializer_class = ItemSerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return seen_by(
            actor, Item.objects.for_team(actor.team).select_related("blob", "dataset"), "dataset__project"
        )

    @extend_schema(request=ItemChange, responses=ItemSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        edit_item(actor=self.actor, uid=uid, **self.input(ItemChange))
        return self.shown(uid)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        delete_item(actor=self.actor, uid=uid)
        return Response(status=204)


class DatasetVersionViewSet(Shown):
    can = {"retrieve": Can.DATASET_VIEW}
    serializer_class = DatasetVersionSerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return selectors.dataset_versions(actor)
