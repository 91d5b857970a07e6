"""`/me`: who the credential acts for."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.actor import Actor


class TeamSummary(serializers.Serializer[Any]):
    id = serializers.CharField()
    slug = serializers.CharField()
    name = serializers.CharField()


class UserSummary(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.EmailField()


class MeSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    team = TeamSummary()
    user = UserSummary()
    api_key = serializers.CharField(allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField())


class MeView(APIView):
    """Say which team and person a credential acts for, and what it may do."""

    door = "machine"

    @extend_schema(operation_id="me", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        actor = request.auth
        assert isinstance(actor, Actor)
        return Response(
            {
                "object": "me",
                "team": {"id": actor.team.uid, "slug": actor.team.slug, "name": actor.team.name},
                "user": {"id": actor.user.uid, "name": actor.user.name, "email": actor.user.email},
                "api_key": actor.api_key.uid if actor.api_key else None,
                "scopes": sorted(permission.value for permission in actor.permissions),
            }
        )
