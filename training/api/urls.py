"""API routes of the training app."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from training.api.captionings import CaptioningViewSet
from training.api.catalogue import CatalogueViewSet
from training.api.evaluations import EvaluationViewSet
from training.api.generations import GenerationViewSet
from training.api.trainings import CheckpointViewSet, SampleViewSet, TrainingViewSet

router = SimpleRouter(trailing_slash=False)
router.register("trainings", TrainingViewSet, basename="training")
router.register("generations", GenerationViewSet, basename="generation")
router.register("captionings", CaptioningViewSet, basename="captioning")
router.register("evaluations", EvaluationViewSet, basename="evaluation")
router.register("samples", SampleViewSet, basename="sample")
router.register("checkpoints", CheckpointViewSet, basename="checkpoint")

urlpatterns: list[URLPattern | URLResolver] = [
    path("base_models", CatalogueViewSet.as_view({"get": "base_models"}), name="base_model-list"),
    path("captioners", CaptioningViewSet.as_view({"get": "captioners"}), name="captioner-list"),
    path(
        "datasets/<uid:uid>/captions:auto",
        CaptioningViewSet.as_view({"post": "auto"}),
        name="dataset-captions-auto",
    ),
    path("templates", CatalogueViewSet.as_view({"get": "templates"}), name="template-list"),
    path("trainings:estimate", TrainingViewSet.as_view({"post": "estimate"}), name="training-estimate"),
    *router.urls,
]
