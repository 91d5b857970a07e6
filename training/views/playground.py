"""The playground: draw pictures with finished LoRAs and keep them with their recipe."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing.services.ledger import InsufficientCredits
from core.errors import DomainError
from projects import selectors as project_selectors
from training import selectors
from training.generation_forms import ROWS, PlaygroundForm, first_values
from training.models import FoundationModel
from training.services.control import cancel_job, resume_job
from training.services.generations import create_generation, delete_generation
from training.states import LIVE, JobState
from training.views.jobs import events_json

ORDERS_PER_PAGE = 8
_SEEDS = 2**31


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def playground(request: TeamRequest) -> HttpResponse:
    """Show the form and what was drawn."""
    return _page(request, _form(request, _first_data(request)), is_first=True)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def generation_create(request: TeamRequest) -> HttpResponse:
    """Order pictures; the form comes back with what is wrong in it."""
    form = _form(request, request.POST)
    answer = _order(request, form)
    return answer if answer is not None else _page(request, form, status=422)


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def generation(request: TeamRequest, uid: str) -> HttpResponse:
    """Show one order; `?part=card` gives its card alone, for the live view."""
    row = selectors.generation_by_uid(request.actor, uid)
    (drawn,) = selectors.drawn_of(request.actor, [row])
    if request.GET.get("part") == "card":
        return render(request, "training/_generation.html", _card(drawn))
    return render(request, "training/generation.html", _card(drawn))


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def generation_events(request: TeamRequest, uid: str) -> HttpResponse:
    """Give the events after a sequence number, for browsers that cannot have a WebSocket."""
    return events_json(request, selectors.generation_by_uid(request.actor, uid))


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def generation_cancel(request: TeamRequest, uid: str) -> HttpResponse:
    """End an order; what is drawn stays."""
    cancel_job(actor=request.actor, job=selectors.generation_by_uid(request.actor, uid))
    return _to_playground(request)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def generation_delete(request: TeamRequest, uid: str) -> HttpResponse:
    """Delete an order with its pictures."""
    delete_generation(actor=request.actor, job=selectors.generation_by_uid(request.actor, uid))
    messages.success(request, _("The pictures are deleted."))
    return _to_playground(request)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def generation_resume(request: TeamRequest, uid: str) -> HttpResponse:
    """Let an order that rests go on."""
    try:
        resume_job(actor=request.actor, job=selectors.generation_by_uid(request.actor, uid))
    except InsufficientCredits as error:
        messages.error(request, error.message)
    return _to_playground(request)


def _order(request: TeamRequest, form: PlaygroundForm) -> HttpResponse | None:
    """Order what the form says; None, with the reasons in the form, if that cannot be."""
    if not form.is_valid():
        return None
    values = form.cleaned_data
    try:
        create_generation(
            actor=request.actor,
            prompts=values["prompts"],
            mixes=form.mixes(),
            base_model=FoundationModel.objects.filter(key=values["base_model"]).first(),
            project=project_selectors.project(request.actor, values["project"])
            if values["project"]
            else None,
            settings=form.settings(),
            form_token=values["form_token"],
        )
    except DomainError as error:
        name = (error.pointer or "").strip("/")
        form.add_error(name if name in form.fields else None, error.message)
        return None
    return _to_playground(request)


def _first_data(request: TeamRequest) -> dict[str, Any]:
    again = request.GET.get("again", "")
    job = selectors.generation_by_uid(request.actor, again) if again else None
    wanted = request.GET.get("version", "")
    found = [each for each in selectors.playable_versions(request.actor) if each.uid == wanted]
    trigger = found[0].trigger_words if found else ""
    return first_values(job, found[0].uid if found else "", trigger, secrets.randbelow(_SEEDS))


def _form(request: TeamRequest, data: Any) -> PlaygroundForm:
    return PlaygroundForm(
        data,
        versions=selectors.playable_versions(request.actor),
        bases=selectors.foundation_models(),
        projects=list(project_selectors.projects(request.actor)),
    )


def _page(
    request: TeamRequest, form: PlaygroundForm, *, status: int = 200, is_first: bool = False
) -> HttpResponse:
    if is_first:
        form.full_clean()
        form.errors.clear()
    page = Paginator(selectors.generations_of(request.actor), ORDERS_PER_PAGE).get_page(
        request.GET.get("page")
    )
    context = {
        "form": form,
        "rows": [(form[f"lora_{row}"], form[f"strength_{row}"]) for row in ROWS],
        "numbers": [form["count"], form["seed"]],
        "form_token": secrets.token_hex(16),
        "page": page,
        "cards": [_card(drawn) for drawn in selectors.drawn_of(request.actor, list(page.object_list))],
        "has_versions": len(form.fields["lora_1"].choices) > 1,  # type: ignore[attr-defined]
    }
    return render(request, "training/playground.html", context, status=status)


def _card(drawn: selectors.Drawn) -> dict[str, Any]:
    job = drawn.job
    return {
        "job": job,
        "mixes": [
            {"label": _label(mix), "samples": mix.samples} for mix in drawn.mixes if mix.samples or mix.uses
        ],
        "is_live": job.state in LIVE or job.state == JobState.QUEUED,
        "missing": range(job.total_steps - sum(len(mix.samples) for mix in drawn.mixes)),
    }


def _label(mix: selectors.DrawnMix) -> str:
    if not mix.uses:
        return _("Without LoRA")
    return " + ".join(
        f"{version if version is not None else _('a deleted model')} × {strength:g}"
        for version, strength in mix.uses
    )


def _to_playground(request: TeamRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("training:playground", args=[request.actor.team.slug]), status=303)
