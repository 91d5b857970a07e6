"""`/projects`."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed
from accounts.roles import Can
from core.api.idempotency import idempotent
from projects import selectors
from projects.api.serializers import ProjectChange, ProjectInput, ProjectQuery, ProjectSerializer
from projects.services.projects import archive_project, change_project, change_visibility, create_project


class ProjectViewSet(Listed):
    can = {
        "list": Can.PROJECT_VIEW,
        "retrieve": Can.PROJECT_VIEW,
        "create": Can.PROJECT_EDIT,
        "partial_update": Can.PROJECT_EDIT,
    }
    serializer_class = ProjectSerializer
    queries: ClassVar[dict[str, Any]] = {"list": ProjectQuery}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        if self.action != "list":
            return selectors.projects(actor, archived=None)
        return selectors.projects(actor, archived=self.query.get("archived", False))

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
            if "restricted" in changes:
                change_visibility(
                    actor=self.actor,
                    uid=uid,
                    is_restricted=changes.pop("restricted"),
                    user_uids=changes.pop("members", None),
                )
            if changes:
                change_project(actor=self.actor, uid=uid, **changes)
        return self.shown(uid)
