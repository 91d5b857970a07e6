"""Pages of the training app; the team's slug comes first in every address."""

from __future__ import annotations

from django.urls import URLPattern

app_name = "training"
urlpatterns: list[URLPattern] = []
