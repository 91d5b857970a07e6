"""Evaluations: have the files of a model version measured, and see what was found."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing.services.ledger import InsufficientCredits
from core.errors import DomainError
from projects import selectors as project_selectors
from training.measured import Measured, evaluation_by_uid, measured_of
from training.services.control import cancel_job, resume_job
from training.services.evaluations import evaluate_version
from training.views.jobs import events_json


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def evaluation_create(request: TeamRequest, uid: str) -> HttpResponse:
    """Have every file of a model version measured."""
    version = project_selectors.lora_version(request.actor, uid)
    try:
        evaluate_version(
            actor=request.actor, version=version, form_token=request.POST.get("form_token", "")[:80]
        )
    except DomainError as error:
        messages.error(request, error.message)
    address = reverse("projects:model", args=[request.actor.team.slug, version.model.uid])
    return HttpResponseRedirect(f"{address}#measured-{version.uid}", status=303)


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def evaluation(request: TeamRequest, uid: str) -> HttpResponse:
    """Show one evaluation; `?part=card` gives its card alone, for the live view."""
    (found,) = measured_of(request.actor, [evaluation_by_uid(request.actor, uid)])
    name = "_evaluation" if request.GET.get("part") == "card" else "evaluation"
    return render(request, f"training/{name}.html", {"measured": found})


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def evaluation_events(request: TeamRequest, uid: str) -> HttpResponse:
    """Give the events after a sequence number, for browsers that cannot have a WebSocket."""
    return events_json(request, evaluation_by_uid(request.actor, uid))


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def evaluation_cancel(request: TeamRequest, uid: str) -> HttpResponse:
    """End an evaluation; what was found stays."""
    job = evaluation_by_uid(request.actor, uid)
    cancel_job(actor=request.actor, job=job)
    return _back(request, uid)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def evaluation_resume(request: TeamRequest, uid: str) -> HttpResponse:
    """Let an evaluation that rests go on."""
    try:
        resume_job(actor=request.actor, job=evaluation_by_uid(request.actor, uid))
    except InsufficientCredits as error:
        messages.error(request, error.message)
    return _back(request, uid)


def _back(request: TeamRequest, uid: str) -> HttpResponse:
    (found,) = measured_of(request.actor, [evaluation_by_uid(request.actor, uid)])
    return HttpResponseRedirect(_address(request, found), status=303)


def _address(request: TeamRequest, found: Measured) -> str:
    """Return the part of the model's page that shows an evaluation, or its own page where the model is gone."""
    slug = request.actor.team.slug
    if found.version is None:
        return reverse("training:evaluation", args=[slug, found.job.uid])
    address = reverse("projects:model", args=[slug, found.version.model.uid])
    return f"{address}#measured-{found.version.uid}"
