"""API routes of the notifications app."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from notifications.api.webhooks import DeliveryViewSet, WebhookEndpointViewSet

router = SimpleRouter(trailing_slash=False)
router.register("webhook_endpoints", WebhookEndpointViewSet, basename="webhook_endpoint")
router.register("deliveries", DeliveryViewSet, basename="delivery")

urlpatterns = router.urls
