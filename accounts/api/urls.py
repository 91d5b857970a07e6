"""API routes of the accounts app."""

from __future__ import annotations

from django.urls import path

from accounts.api.me import MeView

urlpatterns = [path("me", MeView.as_view(), name="me")]
