"""`/webhook_endpoints` and `/deliveries`."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed, ListQuery, Query, Shown
from accounts.roles import Can
from core.api.idempotency import idempotent
from notifications import selectors
from notifications.api.serializers import (
    DeliverySerializer,
    WebhookEndpointChange,
    WebhookEndpointInput,
    WebhookEndpointSerializer,
    WebhookEndpointWithSecret,
)
from notifications.models import Delivery
from notifications.services import webhooks


class WebhookEndpointViewSet(Listed):
    can = {
        "list": Can.WEBHOOKS,
        "retrieve": Can.WEBHOOKS,
        "create": Can.WEBHOOKS,
        "partial_update": Can.WEBHOOKS,
        "destroy": Can.WEBHOOKS,
        "rotate": Can.WEBHOOKS,
        "test": Can.WEBHOOKS,
        "deliveries": Can.WEBHOOKS,
    }
    queries: ClassVar[dict[str, type[Query]]] = {"list": ListQuery, "deliveries": ListQuery}
    serializer_class = WebhookEndpointSerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return selectors.webhook_endpoints(actor)

    @extend_schema(request=WebhookEndpointInput, responses={201: WebhookEndpointWithSecret})
    @idempotent(secret=("secret",))
    def create(self, request: Request) -> Response:
        """Make an endpoint. This answer alone holds its secret: a repeat with the same key has null there."""
        return self._with_secret(
            webhooks.create_endpoint(actor=self.actor, **self.input(WebhookEndpointInput))
        )

    @extend_schema(request=WebhookEndpointChange, responses=WebhookEndpointSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        webhooks.change_endpoint(actor=self.actor, uid=uid, **self.input(WebhookEndpointChange))
        return self.shown(uid)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        webhooks.delete_endpoint(actor=self.actor, uid=uid)
        return Response(status=204)

    @extend_schema(request=None, responses={201: WebhookEndpointWithSecret})
    @action(detail=True, methods=["post"])
    @idempotent(secret=("secret",))
    def rotate(self, request: Request, uid: str) -> Response:
        """Make a new secret; for a day every message is signed with the old one as well."""
        return self._with_secret(webhooks.rotate_secret(actor=self.actor, uid=uid))

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    @idempotent()
    def test(self, request: Request, uid: str) -> Response:
        """Send a `webhook.test` message, once."""
        return self._delivery(webhooks.send_test(actor=self.actor, uid=uid))

    @extend_schema(operation_id="webhook_endpoints_deliveries_list", responses=DeliverySerializer(many=True))
    @action(detail=True)
    def deliveries(self, request: Request, uid: str) -> Response:
        """List what was sent to an endpoint, with each try, the newest first; kept for 30 days."""
        rows = selectors.deliveries(self.actor, self.get_object()).prefetch_related("log")
        return self.page(rows, DeliverySerializer)

    def _with_secret(self, made: webhooks.NewSecret) -> Response:
        context = {**self.get_serializer_context(), "secret": made.text}
        return Response(WebhookEndpointWithSecret(made.endpoint, context=context).data, status=201)

    def _delivery(self, sent: Delivery) -> Response:
        row = selectors.delivery(self.actor, sent.uid)
        return Response(DeliverySerializer(row, context=self.get_serializer_context()).data, status=202)


class DeliveryViewSet(Shown):
    can = {"retrieve": Can.WEBHOOKS, "replay": Can.WEBHOOKS}
    serializer_class = DeliverySerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return selectors.deliveries(actor).prefetch_related("log")

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    @idempotent()
    def replay(self, request: Request, uid: str) -> Response:
        """Send a message again, with the same id and body."""
        sent = webhooks.replay(actor=self.actor, uid=uid)
        return self.shown(sent.uid, 202)
