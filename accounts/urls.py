"""Pages of the accounts app: the way in, and a team's settings."""

from __future__ import annotations

from django.urls import path

from accounts.views.home import home

urlpatterns = [
    path("", home, name="home"),
]
