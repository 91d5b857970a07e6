"""Tags of the training app, for its own pages and for those of the apps below it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import template
from django.template.context import Context
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor
from accounts.roles import Can
from core.templatetags.ui import duration
from projects.models import Dataset, LoraVersion, Project
from projects.views.narrowing import Narrowing
from training import selectors
from training.advisor.templates import TemplateKey
from training.captionings import captionings_shown
from training.measured import Measured, newest_evaluations
from training.models import CaptionMode, TrainingJob
from training.services.captioners import OfferedCaptioner
from training.services.explain import Explanation, explain_failure
from training.states import JobState
from training.views.captionings import captioning_card

register = template.Library()


@register.filter
def memory(megabytes: Any) -> str:
    """Say an amount of memory: `600 MB`, `8 GB`, `11.5 GB`."""
    amount = float(megabytes or 0)
    if amount < 1000:
        return _("%(n)s MB") % {"n": round(amount)}
    return _("%(n)s GB") % {"n": f"{amount / 1024:.1f}".removesuffix(".0")}


@register.filter
def phase(row: TrainingJob) -> str:
    """Say what a live training does at the moment."""
    if row.state == JobState.FINALIZING:
        return _("Checking and storing the file")
    names = {
        "fetch_data": _("Fetching pictures"),
        "class_pictures": _("Drawing pictures of the class"),
        "fetch_base": _("Fetching the base model"),
        "load_base": _("Loading the base model"),
        "cache_latents": _("Encoding pictures"),
        "cache_text": _("Encoding captions"),
        "warm_up": _("Warming up"),
        "train": _("Training"),
        "sample": _("Drawing samples"),
        "evaluate": _("Measuring the result"),
        "export": _("Writing the file"),
    }
    return names.get(row.phase, _("Starting") if row.state == JobState.STARTING else "")


@register.filter
def every(rows: Sequence[Any] | None, most: int) -> Sequence[Any]:
    """Return at most about `most` of `rows`, evenly spread, with the last one."""
    rows = rows or []
    stride = max(1, -(-len(rows) // most))
    picked = list(rows[::stride])
    if rows and picked[-1] != rows[-1]:
        picked.append(rows[-1])
    return picked


@register.filter
def job_state(state: str) -> str:
    """Say a job's state in words."""
    return str(JobState(state).label) if state in JobState.values else state


@register.filter
def cause(row: TrainingJob) -> str:
    """Say why a training failed."""
    return explain_failure(row).cause


@register.filter
def why_failed(row: TrainingJob) -> Explanation:
    """Say in the reader's language why a job failed and what to do."""
    return explain_failure(row)


@register.filter
def template_name(key: str) -> str:
    """Say a template's name."""
    return str(TemplateKey(key).label) if key in TemplateKey.values else key


@register.filter
def outcome(value: str) -> str:
    """Say how an attempt ended."""
    words = {
        "crashed": _("Crashed"),
        "preempted": _("Made room"),
        "yielded": _("Let short work pass"),
        "drained": _("Worker stopped"),
        "interrupted": _("Interrupted"),
        "lost": _("Worker lost"),
        "reaped": _("Worker lost"),
    }
    return words.get(value) or job_state(value)


@register.filter
def outcome_state(value: str) -> str:
    """Return the state whose colour and icon an attempt's outcome is shown with."""
    if value in {"crashed", "lost", "reaped"}:
        return "failed"
    return "paused" if value in {"preempted", "yielded", "drained", "interrupted"} else value


@register.filter
def captioner_name(row: TrainingJob) -> str:
    """Say who writes the captions of an order."""
    return OfferedCaptioner(row.spec["captioner"], row.spec["engine"]["captioner"]).name


@register.filter
def caption_mode(row: TrainingJob) -> str:
    """Say what an order does with captions that are there."""
    return str(CaptionMode(row.spec["mode"]).label)


@register.simple_tag
def seconds_since(moment: datetime) -> int:
    """Count the whole seconds of something that goes on, for the page to count on from."""
    return int((timezone.now() - moment).total_seconds())


@register.simple_tag
def span_since(moment: datetime | None) -> str:
    """Say how long something has been going on."""
    return duration((timezone.now() - moment).total_seconds()) if moment else ""


@register.simple_tag
def span_between(start: datetime | None, end: datetime | None) -> str:
    """Say how long something took."""
    return duration((end - start).total_seconds()) if start and end else ""


@register.filter
def as_percent(share: float) -> str:
    """Say a share of one: `75 %`."""
    return _("%(n)s %%") % {"n": round(100 * share)}


@register.simple_tag(takes_context=True)
def evaluations_of_versions(context: Context, shown: Sequence[dict[str, Any]]) -> dict[str, Measured]:
    """Return the newest evaluation of each version a model's page shows, by its uid, at once for all of them."""
    actor: Actor | None = context.get("actor")
    if actor is None or not actor.can(Can.TRAINING_VIEW):
        return {}
    return newest_evaluations(actor, [each["version"] for each in shown])


@register.inclusion_tag("training/_version_evaluation.html", takes_context=True)
def version_evaluation(
    context: Context, shown: dict[str, Any], evaluations: dict[str, Measured]
) -> dict[str, Any]:
    """Show which file of a version is best, with a button to find out; nothing for who may not see trainings."""
    actor: Actor | None = context.get("actor")
    version: LoraVersion = shown["version"]
    files = len(shown["checkpoints"]) + bool(shown["final"])
    can_edit = actor is not None and actor.can(Can.TRAINING_EDIT)
    measured = evaluations.get(version.uid)
    return {
        "team": context.get("team"),
        "actor": actor,
        "Can": Can,
        "version": version,
        "files": files,
        "measured": measured,
        "can_edit": can_edit and (measured is not None or files > 1),
        "form_token": secrets.token_hex(16),
    }


@register.inclusion_tag("training/_project_trainings.html", takes_context=True)
def project_trainings(context: Context, project: Project) -> dict[str, Any]:
    """List the trainings of a project on its page, with a button to start one; nothing for who may not see them."""
    actor: Actor | None = context.get("actor")
    can_view = can_edit = False
    if actor is not None and actor.team.pk == project.team_id:
        can_view, can_edit = actor.can(Can.TRAINING_VIEW), actor.can(Can.TRAINING_EDIT)
    return {
        "team": project.team,
        "project": project,
        "jobs": selectors.project_jobs(actor, project) if actor and can_view else [],
        "can_view": can_view,
        "can_edit": can_edit,
    }


@register.inclusion_tag("training/_dataset_captionings.html", takes_context=True)
def dataset_captionings(context: Context, dataset: Dataset) -> dict[str, Any]:
    """Show the orders for captions of a picture set on its page; nothing for who may not see them."""
    actor: Actor | None = context.get("actor")
    jobs: list[TrainingJob] = []
    if actor is not None and actor.team.pk == dataset.team_id and actor.can(Can.TRAINING_VIEW):
        jobs = captionings_shown(actor, dataset)
    narrowing = Narrowing.of(context["request"].GET)
    cards = [captioning_card(job, narrowing) for job in jobs]
    return {**{name: context.get(name) for name in ("team", "actor", "Can", "csrf_token")}, "cards": cards}
