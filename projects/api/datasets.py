"""`/datasets`, `/items` and `/dataset_versions`."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed, ListQuery, Shown
from accounts.roles import Can
from core.api.idempotency import idempotent
from projects import selectors
from projects.api.serializers import (
    BulkInput,
    BulkResult,
    DatasetChange,
    DatasetInput,
    DatasetSerializer,
    DatasetVersionSerializer,
    InProjectQuery,
    ItemChange,
    ItemQuery,
    ItemSerializer,
)
from projects.models import Item
from projects.services.datasets import create_dataset, delete_dataset, rename_dataset
from projects.services.items import Bulk, BulkAction, change_each, delete_item, edit_item
from projects.services.versions import freeze_dataset
from projects.visibility import seen_by


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
    queries: ClassVar[dict[str, Any]] = {
        "list": InProjectQuery,
        "items": ItemQuery,
        "versions": ListQuery,
    }

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = selectors.datasets(actor)
        project = self.query.get("project") if self.action == "list" else None
        return rows.filter(project__uid=project) if project else rows

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
        show, search = self.query.get("show", "all"), self.query.get("search", "")
        rows = selectors.items(self.actor, self.get_object(), show=show, search=search)
        rows = rows.select_related("blob", "dataset")
        return self.page(rows, ItemSerializer)

    @extend_schema(request=BulkInput, responses=BulkResult)
    @action(detail=True, methods=["post"], url_path="items:batch")
    @idempotent()
    def batch(self, request: Request, uid: str) -> Response:
        """Change many pictures at once, all or none: captions, exclusion, deletion."""
        values = self.input(BulkInput)
        bulk = Bulk(
            action=BulkAction(values["action"]),
            uids=values.get("items"),
            text=values["text"],
            replacement=values["replacement"],
        )
        changed, found = change_each(actor=self.actor, dataset_uid=uid, bulk=bulk)

        def outcome(item: str) -> str:
            return "changed" if item in changed else "unchanged" if item in found else "not_found"

        named = dict.fromkeys(bulk.uids or ())
        results = [{"item": item, "outcome": outcome(item)} for item in named]
        return Response({"changed": len(changed), "results": results})

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
