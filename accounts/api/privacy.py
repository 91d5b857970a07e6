"""`/exports` and `/deletion_requests`: take everything out, or have everything erased."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed, TeamViewSet
from accounts.api.serializers import DeletionInput, DeletionResult, ExportSerializer
from accounts.models import Team
from accounts.roles import Can
from accounts.selectors import team_exports
from accounts.services.exports import export_link, request_export
from accounts.services.teams import KEPT_FOR, delete_team
from core.api.idempotency import idempotent


class ExportViewSet(Listed):
    """Exports of the team; no API key can hold their permission, a person's token can."""

    can = {"list": Can.EXPORT, "retrieve": Can.EXPORT, "create": Can.EXPORT, "download": Can.EXPORT}
    serializer_class = ExportSerializer
    in_every_plan = True
    binary = ("download",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return team_exports(actor)

    @extend_schema(request=None, responses={202: ExportSerializer})
    @idempotent()
    def create(self, request: Request) -> Response:
        """Have everything the team owns put into one zip; ask for it again until its `state` is `ready`."""
        return self.shown(request_export(actor=self.actor).uid, 202)

    @extend_schema(responses={302: OpenApiResponse(description="Found at a link that lasts five minutes.")})
    @action(detail=True)
    def download(self, request: Request, uid: str) -> HttpResponseBase:
        """Download a finished export."""
        return redirect(export_link(actor=self.actor, uid=uid))


class DeletionViewSet(TeamViewSet):
    can = {"create": Can.TEAM_OWN}
    serializer_class = DeletionResult
    in_every_plan = True

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return Team.objects.filter(pk=actor.team.pk)

    @extend_schema(request=DeletionInput, responses={202: DeletionResult})
    @idempotent()
    def create(self, request: Request) -> Response:
        """Close the team to everybody at once; it is erased two weeks later, until then an owner can restore it."""
        delete_team(actor=self.actor, name=self.input(DeletionInput)["name"])
        team = self.get_queryset().get()
        result = {
            "object": "deletion_request",
            "team": team.uid,
            "deleted_at": team.deleted_at,
            "erased_after": team.deleted_at + KEPT_FOR,
        }
        return Response(DeletionResult(result).data, status=202)
