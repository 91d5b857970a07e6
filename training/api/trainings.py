"""`/trainings` and what belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed, ListQuery, Shown
from accounts.roles import Can
from billing.receipts import receipt_of
from core.api.idempotency import idempotent
from core.errors import DomainError, NotFound
from projects.api.serializers import FOUND_ELSEWHERE
from projects.models import DatasetVersion
from projects.serving import serve_download, serve_picture
from projects.visibility import seen_by
from training import selectors
from training.api.estimate_shapes import EstimateInput, EstimateResult
from training.api.events import FollowedJobs
from training.api.receipts import ReceiptResult
from training.api.serializers import (
    CheckpointSerializer,
    CloneInput,
    EventQuery,
    MetricsQuery,
    MetricsResult,
    RetryInput,
    SampleSerializer,
    TrainingChange,
    TrainingInput,
    TrainingQuery,
    TrainingSerializer,
)
from training.models import Checkpoint, FoundationModel, Sample, TrainingJob
from training.services.checkpoints import download_name
from training.services.control import cancel_job, pause_job, resume_job, stop_job
from training.services.curves import curves
from training.services.jobs import change_job, clone_job, create_job, retry_job
from training.services.quote import quote_training

Change = Callable[..., TrainingJob]


class TrainingViewSet(FollowedJobs, Listed):
    can = {
        "list": Can.TRAINING_VIEW,
        "retrieve": Can.TRAINING_VIEW,
        "create": Can.TRAINING_EDIT,
        "partial_update": Can.TRAINING_EDIT,
        "estimate": Can.TRAINING_VIEW,
        "cancel": Can.TRAINING_EDIT,
        "stop": Can.TRAINING_EDIT,
        "pause": Can.TRAINING_EDIT,
        "resume": Can.TRAINING_EDIT,
        "retry": Can.TRAINING_EDIT,
        "clone": Can.TRAINING_EDIT,
        "events": Can.TRAINING_VIEW,
        "stream": Can.TRAINING_VIEW,
        "metrics": Can.TRAINING_VIEW,
        "samples": Can.TRAINING_VIEW,
        "checkpoints": Can.TRAINING_VIEW,
        "receipt": Can.TRAINING_VIEW,
    }
    serializer_class = TrainingSerializer
    queries: ClassVar[dict[str, Any]] = {
        "list": TrainingQuery,
        "events": EventQuery,
        "stream": EventQuery,
        "metrics": MetricsQuery,
        "samples": ListQuery,
        "checkpoints": ListQuery,
    }
    problems: ClassVar[dict[str, tuple[int, ...]]] = dict.fromkeys(
        ("create", "retry", "clone", "resume"), (402,)
    )
    buckets: ClassVar[dict[str, str]] = dict.fromkeys(("create", "retry", "clone"), "generate")

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = seen_by(actor, TrainingJob.objects.for_team(actor.team)).select_related(
            "team",
            "project",
            "dataset_version",
            "foundation_model",
            "created_by",
            "retry_of",
            "lora_version__model",
        )
        if self.action == "list":
            fields = {
                "project": "project__uid",
                "dataset_version": "dataset_version__uid",
                "status": "state",
                "test": "is_test",
            }
            rows = rows.filter(**{fields[name]: self.query[name] for name in fields if name in self.query})
        return rows

    @extend_schema(request=TrainingInput, responses={201: TrainingSerializer})
    @idempotent(required=True)
    def create(self, request: Request) -> Response:
        """Queue a training of a frozen dataset version; what `settings` leaves out is recommended."""
        data = self.input(TrainingInput)
        job = create_job(
            actor=self.actor,
            dataset_version=self._version(data.pop("dataset_version")),
            foundation_model=base_model_by_key(data.pop("base_model")),
            **data,
        )
        return self.shown(job.uid, 201)

    @extend_schema(request=TrainingChange, responses=TrainingSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        """Rename a training or replace its `metadata`; what is left out stays."""
        change_job(actor=self.actor, job=self.get_object(), **self.input(TrainingChange))
        return self.shown(uid)

    @extend_schema(request=EstimateInput, responses=EstimateResult)
    @idempotent()
    def estimate(self, request: Request) -> Response:
        """Say how long a training would take, what it would be charged and whether it fits, without starting it."""
        data = self.input(EstimateInput)
        quote = quote_training(
            actor=self.actor,
            dataset_version=self._version(data.pop("dataset_version")),
            foundation_model=base_model_by_key(data.pop("base_model")),
            **data,
        )
        found = quote.estimate
        return Response(
            {
                "object": "estimate",
                "pictures": found.images,
                "held_out": found.held_out,
                "steps": found.steps,
                "epochs": found.epochs,
                "steps_per_epoch": found.steps_per_epoch,
                "seconds": found.seconds,
                "measured": found.measured,
                "rate": quote.rate,
                "charged_seconds": quote.charged,
                "held_seconds": quote.held,
                "memory_mb": found.memory_mb,
                "fits": found.fits,
            }
        )

    @extend_schema(request=None, responses=TrainingSerializer)
    @action(detail=True, methods=["post"])
    @idempotent()
    def cancel(self, request: Request, uid: str) -> Response:
        """End a training without a result, whatever it does now."""
        return self._changed(cancel_job)

    @extend_schema(request=None, responses=TrainingSerializer)
    @action(detail=True, methods=["post"])
    @idempotent()
    def stop(self, request: Request, uid: str) -> Response:
        """End a training early and keep what it learned as a model version."""
        return self._changed(stop_job)

    @extend_schema(request=None, responses=TrainingSerializer)
    @action(detail=True, methods=["post"])
    @idempotent()
    def pause(self, request: Request, uid: str) -> Response:
        """Let a training rest until it is resumed; nothing is lost."""
        return self._changed(pause_job)

    @extend_schema(request=None, responses=TrainingSerializer)
    @action(detail=True, methods=["post"])
    @idempotent()
    def resume(self, request: Request, uid: str) -> Response:
        """Put a paused training back into the queue."""
        return self._changed(resume_job)

    @extend_schema(request=RetryInput, responses={201: TrainingSerializer})
    @action(detail=True, methods=["post"])
    @idempotent()
    def retry(self, request: Request, uid: str) -> Response:
        """Queue a new training with the recipe of a finished one and `settings` on top."""
        data = self.input(RetryInput)
        job = retry_job(actor=self.actor, job=self.get_object(), patch=data["settings"])
        return self.shown(job.uid, 201)

    @extend_schema(request=CloneInput, responses={201: TrainingSerializer})
    @action(detail=True, methods=["post"])
    @idempotent()
    def clone(self, request: Request, uid: str) -> Response:
        """Queue a new training like this one, whatever became of it, with `settings` on top."""
        data = self.input(CloneInput)
        job = clone_job(actor=self.actor, job=self.get_object(), patch=data["settings"], name=data["name"])
        return self.shown(job.uid, 201)

    @extend_schema(operation_id="trainings_metrics", responses=MetricsResult)
    @action(detail=True)
    def metrics(self, request: Request, uid: str) -> Response:
        """Return the curves (loss, learning rate and others)."""
        job = self.get_object()
        wanted = [name.strip() for name in self.query.get("keys", "").split(",") if name.strip()]
        most = self.query.get("points", selectors.CURVE_POINTS)
        found = curves(job, most)
        series = {name: points for name, points in found.items() if not wanted or name in wanted}
        return Response({"object": "metrics", "training": job.uid, "series": series})

    @extend_schema(operation_id="trainings_samples_list", responses=SampleSerializer(many=True))
    @action(detail=True)
    def samples(self, request: Request, uid: str) -> Response:
        """List the pictures drawn on the way, the newest first."""
        rows = Sample.objects.for_team(self.actor.team).filter(job=self.get_object())
        return self.page(rows, SampleSerializer)

    @extend_schema(operation_id="trainings_checkpoints_list", responses=CheckpointSerializer(many=True))
    @action(detail=True)
    def checkpoints(self, request: Request, uid: str) -> Response:
        """List the files made on the way and the final one, the newest first."""
        rows = Checkpoint.objects.for_team(self.actor.team).filter(
            job=self.get_object(), export__isnull=False
        )
        return self.page(rows.select_related("export"), CheckpointSerializer)

    @extend_schema(operation_id="trainings_receipt", responses=ReceiptResult)
    @action(detail=True)
    def receipt(self, request: Request, uid: str) -> Response:
        """Say what a training cost: each attempt, what was charged and from where, what was lost and is free."""
        job = self.get_object()
        return Response(ReceiptResult({"training": job.uid, "receipt": receipt_of(job.team, job.uid)}).data)

    def _changed(self, change: Change) -> Response:
        job = change(actor=self.actor, job=self.get_object())
        return self.shown(job.uid)

    def _version(self, uid: str) -> DatasetVersion:
        version: DatasetVersion | None = (
            seen_by(self.actor, DatasetVersion.objects.for_team(self.actor.team), "dataset__project")
            .select_related("team", "dataset__project")
            .filter(uid=uid)
            .first()
        )
        if version is None:
            raise DomainError(
                "dataset_version_unknown", "There is no such dataset version.", pointer="/dataset_version"
            )
        return version


class SampleViewSet(Shown):
    can = {"retrieve": Can.TRAINING_VIEW, "picture": Can.TRAINING_VIEW}
    serializer_class = SampleSerializer
    binary = ("picture",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return seen_by(
            actor, Sample.objects.for_team(actor.team).select_related("blob__team"), "job__project"
        )

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY, 304: None})
    @action(detail=True)
    def picture(self, request: Request, uid: str) -> HttpResponseBase:
        """Give the sample as a picture."""
        return serve_picture(request._request, self.get_object().blob)


class CheckpointViewSet(Shown):
    can = {"retrieve": Can.TRAINING_VIEW, "download": Can.WEIGHTS_DOWNLOAD}
    serializer_class = CheckpointSerializer
    binary = ("download",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = Checkpoint.objects.for_team(actor.team).filter(export__isnull=False)
        return seen_by(actor, rows, "job__project").select_related("export")

    @extend_schema(responses={302: OpenApiResponse(description=FOUND_ELSEWHERE)})
    @action(detail=True)
    def download(self, request: Request, uid: str) -> HttpResponseBase:
        """Download the `.safetensors` of a checkpoint (kohya layout)."""
        checkpoint = selectors.checkpoint_by_uid(self.actor, uid)
        blob = checkpoint.export
        if blob is None:
            raise NotFound
        return serve_download(blob, download_name(checkpoint))


def base_model_by_key(key: str) -> FoundationModel:
    """Return a base model that is offered; raise DomainError."""
    model = FoundationModel.objects.filter(key=key, is_active=True).first()
    if model is None:
        raise DomainError("base_model_unknown", "There is no such base model.", pointer="/base_model")
    return model
