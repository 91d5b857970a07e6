"""A team's trainings: the list, the page of one, and what can be done with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing.entitlements import checkpoints_kept_for
from billing.receipts import receipt_of
from billing.services.ledger import InsufficientCredits
from core.errors import Conflict
from training import selectors
from training.engine.spec import FIELDS, RunSpec, SpecError
from training.models import TrainingJob
from training.queue.outlook import outlook_of
from training.services.control import cancel_job, pause_job, resume_job, stop_job
from training.services.curves import curves
from training.services.explain import explain_failure
from training.services.jobs import retry_job
from training.services.recipes import flatten, plain
from training.services.telemetry import events_after, parse_after
from training.states import LIVE, Desired, JobState

JOBS_PER_PAGE = 30
# Parts of the page that are drawn again when their event comes.
PARTS = frozenset({"head", "samples", "files"})


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def job_list(request: TeamRequest) -> HttpResponse:
    """List the team's trainings, narrowed to a kind of state."""
    chosen = request.GET.get("state", "")
    jobs = selectors.jobs_of(request.actor)
    if chosen in selectors.FILTERS:
        jobs = jobs.filter(state__in=selectors.FILTERS[chosen])
    else:
        chosen = ""
    counts = selectors.job_counts(request.actor)
    page = Paginator(jobs, JOBS_PER_PAGE).get_page(request.GET.get("page"))
    tabs = [
        ("", _("All"), counts["all"]),
        ("active", _("Active"), counts["active"]),
        ("done", _("Done"), counts["done"]),
        ("failed", _("Failed or canceled"), counts["failed"]),
    ]
    context = {"jobs": list(page.object_list), "page": page, "tabs": tabs, "chosen": chosen, "counts": counts}
    return render(request, "training/job_list.html", context)


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def job(request: TeamRequest, uid: str) -> HttpResponse:
    """Show one training; `?part=` answers with one part of the page, for the live view."""
    row = selectors.job_by_uid(request.actor, uid)
    part = request.GET.get("part", "")
    if part:
        if part not in PARTS:
            raise Http404
        return render(request, f"training/job.html#{part}", _PART_CONTEXT[part](row))
    context = {
        **_head(row),
        **_samples(row),
        **_files(row),
        "curves": curves(row, selectors.CURVE_POINTS),
        "log": selectors.log_lines(row),
        "states": JobState.values,
        "attempts": list(row.attempts.select_related("worker").order_by("fence")),
        "receipt": receipt_of(row.team, row.uid),
        "recipe": _recipe(row),
        "recipe_yaml": _yaml(row),
    }
    context["marks"] = {
        "checkpoints": [each.step for each in context["checkpoints"]],
        "samples": sorted({line.step for line in context["grid"].rows if line.with_lora}),
    }
    return render(request, "training/job.html", context)


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def job_events(request: TeamRequest, uid: str) -> JsonResponse:
    """Give the events after a sequence number, for browsers that cannot have a WebSocket."""
    return events_json(request, selectors.job_by_uid(request.actor, uid))


def events_json(request: TeamRequest, row: TrainingJob) -> JsonResponse:
    """Answer with the events of a job after the sequence number that the request names."""
    items = events_after(row, parse_after(request.GET.get("after", "0")) or 0)
    return JsonResponse({"items": items, "head": max([row.last_seq, *(each["seq"] for each in items)])})


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def job_cancel(request: TeamRequest, uid: str) -> HttpResponse:
    """Cancel a training."""
    row = cancel_job(actor=request.actor, job=selectors.job_by_uid(request.actor, uid))
    if row.state == JobState.CANCELED:
        messages.success(request, _("The training was canceled."))
    return _back(request, uid)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def job_stop(request: TeamRequest, uid: str) -> HttpResponse:
    """Stop a training and keep what it learned."""
    stop_job(actor=request.actor, job=selectors.job_by_uid(request.actor, uid))
    return _back(request, uid)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def job_pause(request: TeamRequest, uid: str) -> HttpResponse:
    """Take a training off its worker until it is resumed."""
    pause_job(actor=request.actor, job=selectors.job_by_uid(request.actor, uid))
    return _back(request, uid)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def job_resume(request: TeamRequest, uid: str) -> HttpResponse:
    """Put a paused training back into the queue."""
    try:
        resume_job(actor=request.actor, job=selectors.job_by_uid(request.actor, uid))
    except InsufficientCredits as error:
        messages.error(request, error.message)
    return _back(request, uid)


@team_view(can=Can.TRAINING_EDIT)
@require_POST
def job_retry(request: TeamRequest, uid: str) -> HttpResponse:
    """Start a finished training again, with the changes its error offered if they were asked for."""
    row = selectors.job_by_uid(request.actor, uid)
    patch: dict[str, Any] | None = None
    if request.POST.get("patch"):
        patch = row.error_patch
        if not patch:
            raise Conflict("no_fix", _("This training offers no change to retry with."), state=row.state)
    # One page offers one retry: sending it twice gives the same new training.
    token = f"retry-{request.POST.get('form_token', '')}" if request.POST.get("form_token") else ""
    new = retry_job(actor=request.actor, job=row, patch=patch, form_token=token)
    return _back(request, new.uid)


def _back(request: TeamRequest, uid: str) -> HttpResponse:
    return HttpResponseRedirect(reverse("training:job", args=[request.actor.team.slug, uid]), status=303)


def _head(row: TrainingJob) -> dict[str, Any]:
    queued = row.state == JobState.QUEUED
    has_kept = row.step > 0 and row.state in {JobState.RUNNING, JobState.STOPPING}
    return {
        "job": row,
        "outlook": outlook_of(row) if queued else None,
        "is_live": row.state in LIVE,
        "is_active": not row.is_finished,
        "ending": row.desired in (Desired.CANCEL, Desired.STOP),
        "can_stop": has_kept and row.desired not in (Desired.CANCEL, Desired.STOP),
        "can_pause": row.state in {JobState.QUEUED, JobState.STARTING, JobState.RUNNING} and not row.desired,
        "why": explain_failure(row) if row.state == JobState.FAILED else None,
        "fix_label": fix_label(row.error_patch),
        "final_file": selectors.final_file(row),
        "figures": figures(row.evaluation),
    }


def _samples(row: TrainingJob) -> dict[str, Any]:
    grid = selectors.sample_grid(row)
    return {
        "job": row,
        "grid": grid,
        "pictures": [
            {
                "step": line.step,
                "label": _("Without LoRA") if not line.with_lora else _("Step %(n)s") % {"n": line.step},
                "urls": [
                    reverse("training:sample_picture", args=[row.team.slug, cell.uid]) if cell else None
                    for cell in line.cells
                ],
            }
            for line in grid.rows
        ],
    }


def _files(row: TrainingJob) -> dict[str, Any]:
    found = selectors.checkpoints(row)
    span = (
        checkpoints_kept_for(row.team)
        if row.finished_at and any(not each.is_final for each in found)
        else None
    )
    return {
        "job": row,
        "checkpoints": found,
        "kept_until": row.finished_at + span if row.finished_at and span else None,
    }


_PART_CONTEXT = {"head": _head, "samples": _samples, "files": _files}


def fix_label(patch: dict[str, Any] | None) -> str:
    """Say what a retry with `patch` changes: “batch size 4, gradient checkpointing on”."""
    words = []
    for pointer, value in flatten(patch or {}).items():
        info = FIELDS.get(pointer)
        if info is None:
            continue
        shown = (_("on") if value else _("off")) if isinstance(value, bool) else _number(value)
        words.append(f"{_(info.label).lower()} {shown}")
    return ", ".join(words)


def _number(value: Any) -> str:
    return plain(value) if isinstance(value, int | float) else str(value)


def figures(evaluation: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the three figures of the end, each without and with the LoRA and whether that is better."""
    if not evaluation:
        return []
    rows = [
        (
            "held_out_loss",
            _("Loss on pictures kept aside"),
            _("How far the model is off on pictures it never trained on. Lower is better."),
            False,
        ),
        (
            "style_distance",
            _("Distance to your set"),
            _("How far colours and edges of the samples are from those of your pictures. Lower is closer."),
            False,
        ),
        (
            "content_score",
            _("Content kept"),
            _("Share of samples in which the prompt is still recognised. Higher is better."),
            True,
        ),
    ]
    found = []
    for key, label, text, more_is_better in rows:
        pair = evaluation.get(key)
        if not pair:
            continue
        base, lora = float(pair["base"]), float(pair["lora"])
        as_percent = key == "content_score"
        change = (lora - base) / abs(base) * 100 if base else 0.0
        found.append(
            {
                "label": label,
                "text": text,
                "base": f"{base:.0%}" if as_percent else f"{base:.3g}",
                "lora": f"{lora:.0%}" if as_percent else f"{lora:.3g}",
                "change": f"{change:+.0f} %" if base else "",
                "better": lora >= base if more_is_better else lora <= base,
            }
        )
    return found


def _recipe(row: TrainingJob) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the recipe as groups of (label, value), without what only the platform needs."""
    titles = {
        "captions": _("Captions"),
        "method": _("LoRA"),
        "training": _("Training"),
        "sampling": _("Samples"),
        "checkpoint": _("Checkpoints"),
        "output": _("File"),
    }
    groups = []
    for section, title in titles.items():
        values = []
        for pointer, value in flatten({section: row.spec.get(section, {})}).items():
            info = FIELDS.get(pointer)
            if info is None or value is None or value in ("", []):
                continue
            unit = f" {_(info.unit)}" if info.unit else ""
            values.append((_(info.label), _shown(value) + unit))
        groups.append((title, values))
    return groups


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return _number(value)


def _yaml(row: TrainingJob) -> str:
    try:
        return RunSpec.from_dict(row.spec).to_yaml()
    except SpecError as error:  # a recipe of an older engine
        return str(error)
