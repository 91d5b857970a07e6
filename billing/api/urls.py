"""API routes of the billing app."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from billing.api.usage import UsageViewSet

urlpatterns: list[URLPattern | URLResolver] = [
    path("usage", UsageViewSet.as_view({"get": "usage"}), name="usage"),
]
