"""Pages of the billing app; the team's slug comes first in every address."""

from __future__ import annotations

from django.urls import path

from billing import views

app_name = "billing"
urlpatterns = [path("settings/usage/", views.usage, name="usage")]
