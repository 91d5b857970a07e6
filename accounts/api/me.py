"""`/me`, `/limits` and `/team`: who the credential acts for, what is left, and the team itself."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import TeamViewSet
from accounts.api.serializers import LimitsSerializer, MeSerializer, TeamChange, TeamSerializer
from accounts.models import Team
from accounts.roles import Can
from accounts.services.teams import change_team
from core.api.throttling import limits
from core.quotas import answers


class MeViewSet(TeamViewSet):
    """What concerns the credential and its team as a whole."""

    can = {"me": None, "limits": None, "retrieve": Can.TEAM_VIEW, "partial_update": Can.TEAM_MANAGE}
    serializer_class = TeamSerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return Team.objects.filter(pk=actor.team.pk)

    @extend_schema(operation_id="me", responses=MeSerializer)
    def me(self, request: Request) -> Response:
        """Say which team and person a credential acts for, and what it may do."""
        actor = self.actor
        return Response(
            {
                "object": "me",
                "team": {"id": actor.team.uid, "slug": actor.team.slug, "name": actor.team.name},
                "user": {"id": actor.user.uid, "name": actor.user.name, "email": actor.user.email},
                "role": actor.role.value,
                "api_key": actor.api_key.uid if actor.api_key else None,
                "test": bool(actor.api_key and actor.api_key.is_test),
                "scopes": sorted(permission.value for permission in actor.permissions),
            }
        )

    @extend_schema(operation_id="limits", responses=LimitsSerializer)
    def limits(self, request: Request) -> Response:
        """List every quota of the team with what is used, and the rate limits."""
        team = self.actor.team
        return Response(
            {
                "object": "limits",
                "quotas": [
                    {
                        "quota": found.meter.name,
                        "used": found.used,
                        "limit": found.limit,
                        "resets_at": found.resets_at,
                    }
                    for found in answers(team)
                ],
                "rate_limits": [
                    {"bucket": name, "requests": limit.quota, "seconds": limit.window}
                    for name, limit in sorted(limits().items())
                    if limit.quota and name != "anonymous"
                ],
            }
        )

    @extend_schema(operation_id="team_retrieve", responses=TeamSerializer)
    def retrieve(self, request: Request) -> Response:
        """Return the team that the credential belongs to."""
        return Response(TeamSerializer(self.actor.team).data)

    @extend_schema(operation_id="team_update", request=TeamChange, responses=TeamSerializer)
    def partial_update(self, request: Request) -> Response:
        """Rename the team, or ask its members for a second factor; what is left out stays."""
        change_team(actor=self.actor, **self.input(TeamChange))
        return Response(TeamSerializer(self.actor.team).data)
