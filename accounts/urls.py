"""Pages of the accounts app: the way in, and a team's settings."""

from __future__ import annotations

from django.urls import include, path

from accounts.views.home import home
from accounts.views.preferences import language

pages = [
    path("language/", language, name="language"),
]

urlpatterns = [
    path("", home, name="home"),
    path("", include((pages, "accounts"))),
]
