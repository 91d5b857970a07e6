"""Pages of the projects app; the team's slug comes first in every address."""

from __future__ import annotations

from django.urls import URLPattern

app_name = "projects"
urlpatterns: list[URLPattern] = []
