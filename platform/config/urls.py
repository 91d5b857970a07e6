"""Every address of the site. Pages of a team live under /t/<team>/, the API under /api/v1/."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from core.http.errors import not_found, server_error

urlpatterns = [
    path("admin/", admin.site.urls),
    path("account/", include("allauth.urls")),
    path("", include("core.urls")),
    path("", include("accounts.urls")),
    path("t/<slug:slug>/", include("projects.urls")),
    path("t/<slug:slug>/", include("training.urls")),
    path("api/", include("config.api_urls")),
]

handler404 = not_found
handler500 = server_error
