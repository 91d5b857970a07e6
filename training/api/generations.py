"""`/generations`: pictures drawn with finished LoRAs."""

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
from projects.models import Project
from projects.visibility import seen_by
from training.api.generation_shapes import GenerationInput, GenerationQuery, GenerationSerializer
from training.api.orders import Orders
from training.api.serializers import EventQuery
from training.api.trainings import base_model_by_key
from training.kinds import JobKind
from training.models import Sample, TrainingJob
from training.services.generations import Use, create_generation, delete_generation


class GenerationViewSet(Orders, Listed):
    can = {
        "list": Can.TRAINING_VIEW,
        "retrieve": Can.TRAINING_VIEW,
        "create": Can.TRAINING_EDIT,
        "destroy": Can.TRAINING_EDIT,
        "cancel": Can.TRAINING_EDIT,
        "pause": Can.TRAINING_EDIT,
        "resume": Can.TRAINING_EDIT,
        "events": Can.TRAINING_VIEW,
        "stream": Can.TRAINING_VIEW,
    }
    serializer_class = GenerationSerializer
    queries: ClassVar[dict[str, Any]] = {"list": GenerationQuery, "events": EventQuery, "stream": EventQuery}
    problems: ClassVar[dict[str, tuple[int, ...]]] = dict.fromkeys(("create", "resume"), (402,))
    buckets: ClassVar[dict[str, str]] = {"create": "generate"}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = seen_by(actor, TrainingJob.jobs.for_team(actor.team).filter(kind=JobKind.GENERATION))
        if self.action == "list":
            fields = {"project": "project__uid", "status": "state"}
            rows = rows.filter(**{fields[name]: self.query[name] for name in fields if name in self.query})
        samples = Sample.objects.for_team(actor.team).order_by("prompt_index")
        return rows.select_related("team", "project", "foundation_model", "created_by").prefetch_related(
            Prefetch("samples", queryset=samples)
        )

    @extend_schema(request=GenerationInput, responses={201: GenerationSerializer})
    @idempotent()
    def create(self, request: Request) -> Response:
        """Order pictures: every prompt, with each of its seeds, under each mix of LoRAs."""
        data = self.input(GenerationInput)
        key, project = data.pop("base_model", ""), data.pop("project", "")
        job = create_generation(
            actor=self.actor,
            prompts=data.pop("prompts"),
            mixes=[[Use(**use) for use in mix] for mix in data.pop("mixes")],
            base_model=base_model_by_key(key) if key else None,
            project=self._project(project) if project else None,
            settings=data,
        )
        return self.shown(job.uid, 201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        """Delete a finished order with its pictures."""
        delete_generation(actor=self.actor, job=self.get_object())
        return Response(status=204)

    def _project(self, uid: str) -> Project:
        found: Project | None = (
            seen_by(self.actor, Project.objects.for_team(self.actor.team), "").filter(uid=uid).first()
        )
        if found is None:
            raise DomainError("project_unknown", "There is no such project.", pointer="/project")
        return found
