"""Pages of the billing app; the team's slug comes first in every address but those of the public and of Stripe."""

from __future__ import annotations

from django.urls import include, path

from billing.views import plan, pricing, usage
from billing.webhooks import stripe_webhook

app_name = "billing"

_team = [
    path("settings/usage/", usage.usage, name="usage"),
    path("settings/plan/", plan.plan, name="plan"),
    path("settings/plan/choose/", plan.plan_choose, name="plan_choose"),
    path("settings/plan/top-up/", plan.top_up, name="top_up"),
    path("settings/plan/portal/", plan.portal, name="portal"),
    path("settings/plan/seats/", plan.seats, name="seats"),
    path("settings/plan/limit/", plan.spend_limit, name="spend_limit"),
]

urlpatterns = [
    path("pricing/", pricing.pricing, name="pricing"),
    path("stripe/webhook/", stripe_webhook, name="stripe_webhook"),
    path("t/<slug:slug>/", include(_team)),
]
