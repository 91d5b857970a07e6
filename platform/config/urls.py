"""Every address of the site. Pages of a team live under /t/<team>/, the API under /api/v1/."""

from __future__ import annotations

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from core.http.errors import bad_request, not_found, server_error

# Operators are throttled and asked for their second factor like everybody else.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("account/", include("allauth.urls")),
    path("", include("core.urls")),
    path("", include("accounts.urls")),
    path("", include("notifications.urls")),
    path("", include("billing.urls")),
    path("t/<slug:slug>/", include("projects.urls")),
    path("t/<slug:slug>/", include("training.urls")),
    path("api/", include("config.api_urls")),
]

handler400 = bad_request
handler404 = not_found
handler500 = server_error
