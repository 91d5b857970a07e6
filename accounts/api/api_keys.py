"""`/api_keys`: make, roll and revoke keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed
from accounts.api.serializers import ApiKeyInput, ApiKeySerializer, NewApiKeySerializer, RollInput
from accounts.roles import KEY_SCOPES, Can
from accounts.selectors import team_api_keys
from accounts.services.api_keys import NewKey, create_api_key, revoke_api_key, roll_api_key
from core.api.idempotency import idempotent


class ApiKeyViewSet(Listed):
    can = {
        "list": Can.API_KEYS,
        "retrieve": Can.API_KEYS,
        "create": Can.API_KEYS,
        "roll": Can.API_KEYS,
        "destroy": Can.API_KEYS,
    }
    serializer_class = ApiKeySerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return team_api_keys(actor).select_related("replaced_by")

    @extend_schema(request=ApiKeyInput, responses={201: NewApiKeySerializer})
    @idempotent(secret=("text",))
    def create(self, request: Request) -> Response:
        """Make a key that acts for you in this team; its text is told once."""
        values = self.input(ApiKeyInput)
        usual = [scope for scope in KEY_SCOPES if self.actor.can(scope)]
        new = create_api_key(
            actor=self.actor,
            name=values["name"],
            scopes=[Can(scope) for scope in values["scopes"]] if "scopes" in values else usual,
            is_test=values["test"],
            expires_at=values["expires_at"],
            allowed_networks=values["allowed_networks"],
        )
        return self._told(new)

    @extend_schema(request=RollInput, responses={201: NewApiKeySerializer})
    @action(detail=True, methods=["post"])
    @idempotent(secret=("text",))
    def roll(self, request: Request, uid: str) -> Response:
        """Make a key like this one, and let this one end after `overlap_seconds`."""
        overlap = timedelta(seconds=self.input(RollInput)["overlap_seconds"])
        return self._told(roll_api_key(actor=self.actor, uid=uid, overlap=overlap))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        """Revoke a key at once."""
        revoke_api_key(actor=self.actor, uid=uid)
        return Response(status=204)

    def _told(self, new: NewKey) -> Response:
        context = {**self.get_serializer_context(), "text": new.text}
        return Response(NewApiKeySerializer(new.key, context=context).data, status=201)
