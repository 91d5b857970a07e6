"""API routes of the billing app."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from billing.api.plan import BillingViewSet
from billing.api.usage import UsageViewSet

urlpatterns: list[URLPattern | URLResolver] = [
    path("billing/plan", BillingViewSet.as_view({"get": "plan"}), name="billing-plan"),
    path("billing/checkout", BillingViewSet.as_view({"post": "checkout"}), name="billing-checkout"),
    path("billing/seats", BillingViewSet.as_view({"put": "seats"}), name="billing-seats"),
    path("billing/portal", BillingViewSet.as_view({"post": "portal"}), name="billing-portal"),
    path("billing/invoices", BillingViewSet.as_view({"get": "invoices"}), name="billing-invoices"),
    path(
        "spend_limit",
        BillingViewSet.as_view({"get": "spend_limit", "put": "change_spend_limit"}),
        name="spend_limit",
    ),
    path("usage/export.csv", UsageViewSet.as_view({"get": "export"}), name="usage-export"),
    path("usage", UsageViewSet.as_view({"get": "usage"}), name="usage"),
]
