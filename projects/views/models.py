"""The registry: models, and the page of one model with its versions."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from projects import selectors
from projects.models import LoraSample, LoraVersion
from projects.services.loras import delete_model, delete_version
from projects.views.projects import to

_PER_PAGE = 24
_VERSIONS_PER_PAGE = 10


@team_view(can=Can.MODEL_VIEW)
@require_GET
def model_list(request: TeamRequest) -> HttpResponse:
    """List the team's models."""
    pages = Paginator(selectors.lora_models(request.actor), _PER_PAGE)
    return render(request, "projects/model_list.html", {"page": pages.get_page(request.GET.get("page"))})


@team_view(can=Can.MODEL_VIEW)
@require_GET
def model(request: TeamRequest, uid: str) -> HttpResponse:
    """Show a model: its versions with samples, words, provenance and downloads."""
    found = selectors.lora_model(request.actor, uid)
    rows = selectors.lora_versions(request.actor, found).order_by("-number")
    page = Paginator(rows, _VERSIONS_PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "model": found,
        "project": found.project,
        "page": page,
        "versions": [_shown(version) for version in page],
    }
    return render(request, "projects/model.html", context)


@team_view(can=Can.MODEL_EDIT)
@require_POST
def model_delete(request: TeamRequest, uid: str) -> HttpResponse:
    """Delete a model with all its versions."""
    found = selectors.lora_model(request.actor, uid)
    delete_model(actor=request.actor, uid=uid)
    messages.success(request, _("“%(name)s” is deleted.") % {"name": found.name})
    return to("model_list", request.actor)


@team_view(can=Can.MODEL_EDIT)
@require_POST
def version_delete(request: TeamRequest, uid: str) -> HttpResponse:
    """Delete one version of a model."""
    version = selectors.lora_version(request.actor, uid)
    delete_version(actor=request.actor, uid=uid)
    messages.success(request, _("“%(name)s” is deleted.") % {"name": version})
    return to("model", request.actor, uid=version.model.uid)


def _shown(version: LoraVersion) -> dict[str, Any]:
    """Return a version as its page shows it: the final file, the others, and the last pictures off and on."""
    files = list(version.files.all())
    samples = list(version.samples.all())
    return {
        "version": version,
        "final": next((file for file in files if file.is_final), files[0] if files else None),
        "checkpoints": [file for file in files if not file.is_final],
        "pairs": _pairs(samples),
    }


def _pairs(samples: list[LoraSample]) -> list[dict[str, Any]]:
    """Pair, for each prompt, the picture drawn without the LoRA with the last one drawn with it."""
    ordered = sorted(samples, key=lambda sample: (sample.prompt_index, sample.with_lora, sample.step))
    pairs = []
    for _prompt, group in groupby(ordered, key=lambda sample: sample.prompt_index):
        rows = list(group)
        with_lora = [row for row in rows if row.with_lora and row.step > 0] or [
            row for row in rows if row.with_lora
        ]
        without = [row for row in rows if not row.with_lora]
        # The picture at step 0 is the base model's: the adapter has learnt nothing yet.
        first = [row for row in rows if row.with_lora and row.step == 0]
        if with_lora:
            pairs.append(
                {
                    "prompt": with_lora[-1].prompt,
                    "on": with_lora[-1],
                    "off": without[-1] if without else first[0] if first else None,
                }
            )
    return pairs
