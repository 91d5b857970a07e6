"""Order pictures: what to draw, with which LoRAs, and how strongly they act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound
from projects.models import LoraFile, LoraVersion, Project
from projects.visibility import seen_by
from training.engine import generation
from training.engine.estimate import MODELS
from training.engine.generation import GenerationSpec
from training.engine.parsing import SpecError
from training.kinds import JobKind
from training.models import FoundationModel, TrainingJob
from training.queue.policy import class_of_need
from training.services.estimates import RAN, device_profile
from training.services.jobs import require_base
from training.services.recipes import BASE_PATH, best_device, explain
from training.services.short_work import queue_short_work
from training.states import JobState

# Loading the model and storing the pictures, beside the drawing.
SECONDS_AROUND = 10.0
# The demo model on one processor core: seconds for each forward pass of a picture of 512 x 512.
_DEMO_SPEED = 0.6
RUNS_LOOKED_AT = 8


@dataclass(frozen=True, slots=True)
class Use:
    """Say that a version acts, how strongly, and from which of its files ("" is the finished one)."""

    model_version: str
    strength: float = 1.0
    file: str = ""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Hold what an order names, found and allowed."""

    base: FoundationModel
    project: Project
    files: dict[tuple[str, str], LoraFile]


def create_generation(
    *,
    actor: Actor,
    prompts: Sequence[str],
    mixes: Sequence[Sequence[Use]] = ((),),
    base_model: FoundationModel | None = None,
    project: Project | None = None,
    settings: Mapping[str, Any] | None = None,
    form_token: str = "",
) -> TrainingJob:
    """Queue an order of pictures and return its job: every prompt, with each seed, under each mix of LoRAs.

    An empty mix is the base model alone. `base_model` and `project` are those of the LoRAs where they are not given.
    `settings` holds other values of `GenerationSpec` by name. With `form_token` the same token gives the same job.
    Raise PermissionDenied, QuotaExceeded, InsufficientCredits, Conflict (archived project) or DomainError.
    """
    require(actor, Can.TRAINING_EDIT)
    chosen = _choose(actor, mixes, base_model, project)
    spec = _spec(chosen, prompts, mixes, dict(settings or {}))
    is_test = bool(actor.api_key and actor.api_key.is_test)
    if not is_test:
        require_base(actor.team, chosen.base)
    seconds = estimate_pictures(spec, chosen.base, team=actor.team)
    return queue_short_work(
        actor,
        JobKind.GENERATION,
        form_token=form_token,
        project=chosen.project,
        foundation_model=chosen.base,
        name=next(prompt for prompt in spec.prompts if prompt.strip())[:80],
        spec=spec.to_dict(),
        spec_sha256=spec.sha256(),
        estimated_seconds=seconds,
        gpu_gb=gpu_gb_of_pictures(spec, chosen.base),
        total_steps=spec.total,
    )


def delete_generation(*, actor: Actor, job: TrainingJob) -> None:
    """Delete a finished order with its pictures; what it cost stays on the books. Raise Conflict while it goes on.

    The bytes go when nothing names them any more (`projects.duties`).
    """
    require(actor, Can.TRAINING_EDIT)
    with transaction.atomic():
        rows = TrainingJob.jobs.for_team(actor.team).filter(kind=JobKind.GENERATION)
        row = seen_by(actor, rows).select_for_update(of=("self",)).filter(pk=job.pk).first()
        if row is None:
            raise NotFound
        if not row.is_finished:
            raise Conflict(
                "not_finished", _("These pictures are still being drawn. Cancel them first."), state=row.state
            )
        audit(actor, "generation.deleted", row)
        row.delete()


def estimate_pictures(spec: GenerationSpec, base: FoundationModel, *, team: Team) -> int:
    """Return about how many seconds an order takes (one query): measured on the team's last ones if there are any."""
    rows = (
        TrainingJob.jobs.for_team(team)
        .filter(
            kind=JobKind.GENERATION,
            foundation_model=base,
            state=JobState.SUCCEEDED,
            is_test=False,
            started_at__isnull=False,
        )
        .order_by("-finished_at")
        .annotate(ran=RAN)
        .values_list("spec", "ran")[:RUNS_LOOKED_AT]
    )
    speeds = []
    for data, ran in rows:
        seconds = ran.total_seconds() - SECONDS_AROUND / 2
        speeds.append(max(0.0, seconds) / generation.work(GenerationSpec.from_dict(data)))
    if speeds:
        drawing = median(speeds) * generation.work(spec)
    elif base.is_demo:
        drawing = _DEMO_SPEED * generation.work(spec)
    else:
        drawing = generation.estimate_seconds(spec, device_profile(best_device().memory_mb))
    return int(SECONDS_AROUND + drawing) + 1


def _choose(
    actor: Actor, mixes: Sequence[Sequence[Use]], base: FoundationModel | None, project: Project | None
) -> _Chosen:
    """Find the files, the one base model they all belong to, and the project that the pictures belong to."""
    uses = [use for mix in mixes for use in mix]
    versions = _versions(actor, uses)
    keys = {version.base_model for version in versions.values()}
    if len(keys) > 1:
        names = ", ".join(sorted(keys))
        raise DomainError(
            "several_base_models",
            _("These LoRAs belong to different base models (%(names)s). Choose those of one.")
            % {"names": names},
            pointer="/mixes",
        )
    if base is None:
        base = FoundationModel.objects.filter(key=next(iter(keys), ""), is_active=True).first()
    if base is None or not base.is_active:
        raise DomainError(
            "base_model_unknown", _("Choose a base model that is offered here."), pointer="/base_model"
        )
    if keys and base.key not in keys:
        raise DomainError(
            "lora_of_another_base",
            _("This LoRA belongs to %(key)s. Choose that base model.") % {"key": next(iter(keys))},
            pointer="/base_model",
        )
    files = {(use.model_version, use.file): _file_of(versions[use.model_version], use.file) for use in uses}
    return _Chosen(base, _project_of(list(versions.values()), project), files)


def _versions(actor: Actor, uses: Sequence[Use]) -> dict[str, LoraVersion]:
    wanted = {use.model_version for use in uses}
    rows = seen_by(actor, LoraVersion.objects.for_team(actor.team), "model__project")
    rows = (
        rows.filter(uid__in=wanted).select_related("model__project").prefetch_related("files").order_by("id")
    )
    found = {row.uid: row for row in rows}
    if len(found) < len(wanted):
        raise DomainError("model_version_unknown", _("There is no such model version."), pointer="/mixes")
    return found


def _file_of(version: LoraVersion, uid: str) -> LoraFile:
    file: LoraFile
    for file in version.files.all():
        if file.uid == uid or (not uid and file.is_final):
            return file
    raise DomainError("lora_file_unknown", _("This model version has no such file."), pointer="/mixes")


def _project_of(versions: Sequence[LoraVersion], project: Project | None) -> Project:
    """Return where the pictures belong: nobody sees through them what a restricted project hides."""
    restricted = {v.model.project_id: v.model.project for v in versions if v.model.project.is_restricted}
    if len(restricted) > 1 or (restricted and project is not None and project.pk not in restricted):
        raise DomainError(
            "restricted_project",
            _("A LoRA of a restricted project draws only into that project."),
            pointer="/project",
        )
    if restricted:
        project = next(iter(restricted.values()))
    if project is None and versions:
        project = versions[0].model.project
    if project is None:
        raise DomainError("project_missing", _("Say which project the pictures are for."), pointer="/project")
    if project.archived_at is not None:
        raise Conflict("project_archived", _("This project is archived. Bring it back first."))
    return project


def _spec(
    chosen: _Chosen, prompts: Sequence[str], mixes: Sequence[Sequence[Use]], values: dict[str, Any]
) -> GenerationSpec:
    side = chosen.base.resolution
    data = {
        "width": side,
        "height": side,
        **values,
        "prompts": list(prompts),
        "base_model": {"path": BASE_PATH, "family": chosen.base.family},
        "mixes": [
            [
                {
                    "file": chosen.files[use.model_version, use.file].uid,
                    "strength": use.strength,
                    "version": use.model_version,
                }
                for use in mix
            ]
            for mix in mixes
        ],
    }
    try:
        return GenerationSpec.from_dict(data)
    except SpecError as error:
        words = explain(error, generation.FIELDS)
        raise DomainError("invalid_settings", words, pointer=error.pointer) from error


def gpu_gb_of_pictures(spec: GenerationSpec, base: FoundationModel) -> int:
    """Return the class of GPU that drawing an order needs."""
    if base.is_demo or spec.base_model.family not in MODELS:
        return class_of_need(base.memory_mb)
    return class_of_need(generation.estimate_memory_mb(spec, device_profile(best_device().memory_mb)))
