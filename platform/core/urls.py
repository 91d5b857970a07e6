"""Addresses that belong to no app: health, the theme, and tools of a private installation."""

from __future__ import annotations

from django.urls import path

from core import views
from core.health import healthz, readyz
from core.http.decorators import machine_view

app_name = "core"
urlpatterns = [
    path("healthz", machine_view(healthz), name="healthz"),
    path("readyz", machine_view(readyz), name="readyz"),
    path("theme/", views.theme, name="theme"),
    path("dev/styleguide/", views.styleguide, name="styleguide"),
]
