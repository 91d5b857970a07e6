"""API routes of the projects app."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, URLResolver, path, re_path
from rest_framework.routers import SimpleRouter

from projects.api.datasets import DatasetVersionViewSet, DatasetViewSet, ItemViewSet
from projects.api.models import ModelVersionViewSet, ModelViewSet
from projects.api.projects import ProjectViewSet
from projects.api.uploads import UploadViewSet

router = SimpleRouter(trailing_slash=False)
router.register("projects", ProjectViewSet, basename="project")
router.register("datasets", DatasetViewSet, basename="dataset")
router.register("items", ItemViewSet, basename="item")
router.register("dataset_versions", DatasetVersionViewSet, basename="dataset_version")
router.register("models", ModelViewSet, basename="model")
router.register("model_versions", ModelVersionViewSet, basename="model_version")

_upload: dict[str, Any] = {"get": "retrieve", "head": "offset", "patch": "append", "delete": "destroy"}

urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    path(
        "uploads", UploadViewSet.as_view({"get": "list", "post": "create"}, detail=False), name="upload-list"
    ),
    re_path(
        rf"^uploads/(?P<uid>{UploadViewSet.lookup_value_regex})$",
        UploadViewSet.as_view(_upload, detail=True),
        name="upload-detail",
    ),
]
