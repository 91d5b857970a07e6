"""What an operator sees of trainings: jobs of all teams to read, base models to change, workers to watch."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from training.models import Attempt, FoundationModel, TrainingJob, Worker


class ReadOnly:
    """Let an operator look and change nothing: rows of the queue move only by its own rules."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AttemptInline(ReadOnly, admin.TabularInline):
    model = Attempt
    fields = ("fence", "worker", "started_at", "ended_at", "first_step", "last_step", "outcome")
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        return Attempt.unscoped.select_related("worker")


@admin.register(TrainingJob)
class TrainingJobAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("name", "team", "state", "step", "total_steps", "error_code", "queued_at", "finished_at")
    list_filter = ("state", "error_category", "error_code", "foundation_model")
    search_fields = ("uid", "name", "team__slug")
    date_hierarchy = "created_at"
    list_select_related = ("team",)
    inlines = (AttemptInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingJob]:
        return TrainingJob.unscoped.all()


@admin.register(FoundationModel)
class FoundationModelAdmin(admin.ModelAdmin):
    list_display = ("name", "key", "family", "resolution", "memory_mb", "licence", "is_active", "is_demo")
    list_filter = ("family", "is_active")
    search_fields = ("name", "key")


@admin.register(Worker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("name", "device", "memory_mb", "state", "seen_at", "started_at")
    list_filter = ("state",)
