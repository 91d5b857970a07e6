"""`/captionings` and `/captioners`, and `/datasets/{id}/captions:auto`: captions written by a captioner."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed
from accounts.roles import Can
from core.api.idempotency import idempotent
from projects import selectors as project_selectors
from training.api.captioning_shapes import (
    CaptionerResult,
    CaptioningInput,
    CaptioningQuery,
    CaptioningSerializer,
)
from training.api.orders import Orders
from training.api.serializers import EventQuery
from training.captionings import captionings_of
from training.models import CaptionMode
from training.services.captioners import offered_captioners
from training.services.captioning import caption_items


class CaptioningViewSet(Orders, Listed):
    can = {
        "list": Can.DATASET_VIEW,
        "retrieve": Can.DATASET_VIEW,
        "auto": Can.DATASET_EDIT,
        "captioners": Can.TRAINING_VIEW,
        "cancel": Can.TRAINING_EDIT,
        "pause": Can.TRAINING_EDIT,
        "resume": Can.TRAINING_EDIT,
        "events": Can.DATASET_VIEW,
        "stream": Can.DATASET_VIEW,
    }
    serializer_class = CaptioningSerializer
    queries: ClassVar[dict[str, Any]] = {"list": CaptioningQuery, "events": EventQuery, "stream": EventQuery}
    problems: ClassVar[dict[str, tuple[int, ...]]] = dict.fromkeys(("auto", "resume"), (402,))
    buckets: ClassVar[dict[str, str]] = {"auto": "generate"}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = captionings_of(actor)
        if self.action == "list":
            fields = {"dataset": "spec__dataset", "status": "state"}
            rows = rows.filter(**{fields[name]: self.query[name] for name in fields if name in self.query})
        return rows

    @extend_schema(
        operation_id="datasets_captions_auto", request=CaptioningInput, responses={201: CaptioningSerializer}
    )
    @idempotent()
    def auto(self, request: Request, uid: str) -> Response:
        """Have captions written for pictures of a dataset; it is carried out like a training, and can be followed."""
        data = self.input(CaptioningInput)
        job = caption_items(
            actor=self.actor,
            dataset=project_selectors.dataset(self.actor, uid),
            captioner=data["captioner"],
            items=data.get("items"),
            mode=CaptionMode(data["mode"]),
            longest=data.get("longest"),
        )
        return self.shown(job.uid, 201)

    @extend_schema(
        operation_id="captioners_list",
        responses=inline_serializer("CaptionerList", {"data": CaptionerResult(many=True)}),
    )
    def captioners(self, request: Request) -> Response:
        """List what can write captions here: models of this installation, and what needs none."""
        rows = [
            {"id": each.key, "object": "captioner", "name": each.name, "description": each.description}
            for each in offered_captioners()
        ]
        return Response({"data": CaptionerResult(rows, many=True).data})
