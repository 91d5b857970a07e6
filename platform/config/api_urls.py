"""The REST API: one router per app, its OpenAPI document and its interactive page."""

from __future__ import annotations

from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from core.http.decorators import public_view

urlpatterns = [
    path("v1/", include("accounts.api.urls")),
    path("v1/", include("billing.api.urls")),
    path("v1/", include("notifications.api.urls")),
    path("v1/", include("projects.api.urls")),
    path("v1/", include("training.api.urls")),
    path(
        "v1/openapi.yaml",
        public_view(SpectacularAPIView.as_view(permission_classes=[], authentication_classes=[])),
        name="openapi",
    ),
    path(
        "docs/",
        # Swagger's page brings a style of its own.
        csp_update({"style-src": [UNSAFE_INLINE]})(
            public_view(
                SpectacularSwaggerSplitView.as_view(
                    url_name="openapi", permission_classes=[], authentication_classes=[]
                )
            )
        ),
        name="api_docs",
    ),
]
