"""Have the pictures of a set captioned, and watch it."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing.services.ledger import InsufficientCredits
from core.errors import DomainError
from projects import selectors as project_selectors
from projects.models import Dataset
from projects.views.narrowing import Narrowing
from training.captioning_forms import CaptioningForm
from training.captionings import captioning_by_uid
from training.models import CaptionMode, TrainingJob
from training.services.captioning import caption_items
from training.services.control import cancel_job, resume_job
from training.states import LIVE, JobState
from training.views.jobs import events_json


@team_view(can=Can.DATASET_EDIT)
@require_http_methods(["GET", "POST"])
def captioning_create(request: TeamRequest, uid: str) -> HttpResponse:
    """Ask who shall write the captions. The grid posts which pictures are meant; the form posts that again."""
    found = project_selectors.dataset(request.actor, uid)
    fields = request.POST if request.method == "POST" else request.GET
    narrowing = Narrowing.of(fields)
    uids = [*fields.getlist("items"), *(uid for uid in fields.get("uids", "").split(",") if uid)]
    everything = request.method == "GET" or bool(fields.get("everything"))
    if not everything and not uids:
        messages.error(request, _("Select pictures first."))
        return _to_dataset(request, uid, narrowing)
    if "captioner" not in request.POST:
        form = CaptioningForm()
    else:
        form = CaptioningForm(request.POST)
        items = _shown(request, found, narrowing) if everything else uids
        if form.is_valid() and _order(request, found, form, items):
            return _to_dataset(request, uid, narrowing)
    context = {
        "form": form,
        "form_token": secrets.token_hex(16),
        "dataset": found,
        "project": found.project,
        "narrowing": narrowing,
        "everything": everything,
        "uids": "" if everything else ",".join(uids),
        "count": len(set(uids)),
    }
    status = 422 if form.errors else 200
    return render(request, "training/captioning_form.html", context, status=status)


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def captioning(request: TeamRequest, uid: str) -> HttpResponse:
    """Show one order; `?part=card` gives its card alone, for the live view."""
    context = captioning_card(captioning_by_uid(request.actor, uid), Narrowing.of(request.GET))
    if request.GET.get("part") == "card":
        # The grid beside the card has new captions once it is over.
        return render(request, "training/_captioning.html", {**context, "fresh": not context["is_live"]})
    return render(request, "training/captioning.html", context)


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def captioning_events(request: TeamRequest, uid: str) -> HttpResponse:
    """Give the events after a sequence number, for browsers that cannot have a WebSocket."""
    return events_json(request, captioning_by_uid(request.actor, uid))


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def captioning_cancel(request: TeamRequest, uid: str) -> HttpResponse:
    """End an order; what is written stays."""
    job = cancel_job(actor=request.actor, job=captioning_by_uid(request.actor, uid))
    return _to_dataset(request, job.spec["dataset"], Narrowing())


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def captioning_resume(request: TeamRequest, uid: str) -> HttpResponse:
    """Let an order that rests go on."""
    job = captioning_by_uid(request.actor, uid)
    try:
        resume_job(actor=request.actor, job=job)
    except InsufficientCredits as error:
        messages.error(request, error.message)
    return _to_dataset(request, job.spec["dataset"], Narrowing())


def captioning_card(job: TrainingJob, narrowing: Narrowing) -> dict[str, Any]:
    """Return what the card of an order shows on a page that is narrowed so."""
    return {
        "job": job,
        "is_live": job.state in LIVE or job.state == JobState.QUEUED,
        "narrowing": narrowing.query,
    }


def _shown(request: TeamRequest, found: Dataset, narrowing: Narrowing) -> list[str] | None:
    """Return the pictures that the page shows, None for all."""
    if narrowing == Narrowing():
        return None
    rows = project_selectors.items(request.actor, found, show=narrowing.show, search=narrowing.search)
    return list(rows.values_list("uid", flat=True))


def _order(request: TeamRequest, found: Dataset, form: CaptioningForm, items: list[str] | None) -> bool:
    """Order what the form says; False, with the reasons in the form, if that cannot be."""
    values = form.cleaned_data
    try:
        caption_items(
            actor=request.actor,
            dataset=found,
            captioner=values["captioner"],
            items=items,
            mode=CaptionMode(values["mode"]),
            longest=values["longest"],
            form_token=values["form_token"],
        )
    except DomainError as error:
        if error.status in (403, 404):
            raise
        name = (error.pointer or "").strip("/")
        form.add_error(name if name in form.fields else None, error.message)
        return False
    return True


def _to_dataset(request: TeamRequest, uid: str, narrowing: Narrowing) -> HttpResponse:
    address = reverse("projects:dataset", args=[request.actor.team.slug, uid])
    query = f"?{narrowing.query}" if narrowing.query else ""
    return HttpResponseRedirect(address + query, status=303)
