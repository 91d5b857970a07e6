"""What an operator sees of trainings: jobs of all teams to read, base models to change, workers to watch."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from core.admin import OfTeam, ReadOnly
from core.errors import DomainError
from core.models import DutyRun
from training.engine.registry import family_names
from training.models import Attempt, FoundationModel, QueueSettings, TrainingJob, Worker
from training.queue.overview import queue_overview
from training.queue.quarantine import release
from training.services.foundation_models import read_weights
from training.states import LIVE


class AttemptInline(ReadOnly, admin.TabularInline):
    model = Attempt
    fields = ("fence", "worker", "started_at", "ended_at", "first_step", "last_step", "outcome")
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        return Attempt.unscoped.select_related("worker")


@admin.register(TrainingJob)
class TrainingJobAdmin(OfTeam, ReadOnly, admin.ModelAdmin):
    list_display = (
        "name",
        "of_team",
        "state",
        "step",
        "total_steps",
        "error_code",
        "queued_at",
        "finished_at",
    )
    list_filter = ("state", "error_category", "error_code", "foundation_model")
    search_fields = ("uid", "name", "team__slug")
    date_hierarchy = "created_at"
    list_select_related = ("team",)
    inlines = (AttemptInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingJob]:
        return TrainingJob.unscoped.all()


class FoundationModelForm(forms.ModelForm):
    """Take a base model's folder, look into it, and note which weights it holds."""

    def clean_family(self) -> str:
        family: str = self.cleaned_data["family"]
        if family not in family_names():
            raise forms.ValidationError(
                _("The trainer knows no family “%(family)s”. It knows: %(known)s.")
                % {"family": family, "known": ", ".join(family_names())}
            )
        return family

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"]
        if self.instance.pk is None or path != self.instance.path:
            try:
                self.instance.sha256 = read_weights(path)
            except DomainError as error:
                raise forms.ValidationError(error.message) from error
        return path


@admin.register(FoundationModel)
class FoundationModelAdmin(admin.ModelAdmin):
    form = FoundationModelForm
    readonly_fields = ("sha256",)
    actions = ("read_again",)
    list_display = (
        "name",
        "key",
        "family",
        "resolution",
        "memory_mb",
        "licence",
        "is_active",
        "is_standard",
        "is_demo",
    )
    list_filter = ("family", "is_active")
    search_fields = ("name", "key")

    @admin.action(description=_("Look again which weights the folder holds"))
    def read_again(self, request: HttpRequest, models: QuerySet[FoundationModel]) -> None:
        for model in models:
            try:
                model.sha256 = read_weights(model.path)
            except DomainError as error:
                self.message_user(request, f"{model}: {error.message}", messages.ERROR)
            else:
                model.save(update_fields=["sha256"])


@admin.register(Worker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "name",
        "device",
        "memory_mb",
        "state",
        "job",
        "reserved_for",
        "lent_to",
        "seen_at",
        "started_at",
    )
    list_filter = ("state",)
    actions = ("release_from_quarantine",)
    change_list_template = "admin/training/worker_list.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.queue)
        return [path("queue/", view, name="training_queue"), *super().get_urls()]

    def queue(self, request: HttpRequest) -> HttpResponse:
        """Show the queue by plan, what jobs wait for, the workers, and what failed in the last day."""
        if not self.has_view_permission(request):
            raise Http404
        found = queue_overview()
        duties = DutyRun.objects.order_by("name")
        context = {
            **self.admin_site.each_context(request),
            "title": _("Queue"),
            "queue": found,
            "reasons": [(reason.label, count) for reason, count in found.reasons.items()],
            "duties": [(duty, 1000 * duty.seconds / duty.runs if duty.runs else 0) for duty in duties],
        }
        return render(request, "admin/training/queue.html", context)

    @admin.action(description=_("Put back into service"))
    def release_from_quarantine(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        if not request.user.has_perm("training.change_worker"):  # type: ignore[union-attr]
            raise Http404
        release(list(workers))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        live = TrainingJob.unscoped.filter(state__in=sorted(LIVE))
        rows = Worker.objects.select_related("reserved_for", "lent_to")
        return rows.prefetch_related(Prefetch("jobs", live, to_attr="live"))

    @admin.display(description=_("job"))
    def job(self, worker: Worker) -> str:
        return ", ".join(str(job) for job in worker.live)  # type: ignore[attr-defined]


@admin.register(QueueSettings)
class QueueSettingsAdmin(admin.ModelAdmin):
    """The one row of constants; plans hold what differs between teams."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and not QueueSettings.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: QueueSettings, form: Any, change: bool) -> None:
        obj.pk = 1
        super().save_model(request, obj, form, change)
