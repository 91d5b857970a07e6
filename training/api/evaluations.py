"""`/evaluations`: which file of a model version is best."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed
from accounts.roles import Can
from core.api.idempotency import idempotent
from core.errors import DomainError
from projects.models import LoraVersion
from projects.visibility import seen_by
from training.api.evaluation_shapes import EvaluationInput, EvaluationQuery, EvaluationSerializer
from training.api.orders import Orders
from training.api.serializers import EventQuery
from training.kinds import JobKind
from training.models import Sample, TrainingJob
from training.services.evaluations import evaluate_version


class EvaluationViewSet(Orders, Listed):
    can = {
        "list": Can.TRAINING_VIEW,
        "retrieve": Can.TRAINING_VIEW,
        "create": Can.TRAINING_EDIT,
        "cancel": Can.TRAINING_EDIT,
        "pause": Can.TRAINING_EDIT,
        "resume": Can.TRAINING_EDIT,
        "events": Can.TRAINING_VIEW,
        "stream": Can.TRAINING_VIEW,
    }
    serializer_class = EvaluationSerializer
    queries: ClassVar[dict[str, Any]] = {"list": EvaluationQuery, "events": EventQuery, "stream": EventQuery}
    problems: ClassVar[dict[str, tuple[int, ...]]] = dict.fromkeys(("create", "resume"), (402,))
    buckets: ClassVar[dict[str, str]] = {"create": "generate"}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = seen_by(actor, TrainingJob.jobs.for_team(actor.team).filter(kind=JobKind.EVALUATION))
        if self.action == "list":
            fields = {
                "project": "project__uid",
                "model_version": "evaluation__version",
                "status": "state",
            }
            rows = rows.filter(**{fields[name]: self.query[name] for name in fields if name in self.query})
        samples = Sample.objects.for_team(actor.team).order_by("prompt_index")
        return rows.select_related("team", "project", "foundation_model", "created_by").prefetch_related(
            Prefetch("samples", queryset=samples)
        )

    @extend_schema(request=EvaluationInput, responses={201: EvaluationSerializer})
    @idempotent()
    def create(self, request: Request) -> Response:
        """Have every file of a model version measured on the same prompts and seeds, beside its base model alone."""
        data = self.input(EvaluationInput)
        job = evaluate_version(
            actor=self.actor,
            version=self._version(data["model_version"]),
            prompts=data.get("prompts"),
            seeds=data.get("seeds"),
        )
        return self.shown(job.uid, 201)

    def _version(self, uid: str) -> LoraVersion:
        rows = seen_by(self.actor, LoraVersion.objects.for_team(self.actor.team), "model__project")
        found: LoraVersion | None = rows.filter(uid=uid).first()
        if found is None:
            raise DomainError(
                "model_version_unknown", "There is no such model version.", pointer="/model_version"
            )
        return found
