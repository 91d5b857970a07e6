"""Have every file of a model version measured, so that the best one can be chosen."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.roles import Can
from core.errors import Conflict, DomainError
from projects.models import LoraFile, LoraVersion
from projects.visibility import seen_by
from training.advisor.recommend import with_trigger
from training.engine import generation
from training.engine.generation import MOST_MIXES, MOST_PICTURES, GenerationSpec
from training.engine.parsing import SpecError
from training.findings import Finding, Findings
from training.kinds import JobKind
from training.models import FoundationModel, TrainingJob
from training.services.generations import estimate_pictures, gpu_gb_of_pictures
from training.services.jobs import require_base
from training.services.recipes import BASE_PATH, explain
from training.services.short_work import queue_short_work

MOST_FILES = MOST_MIXES - 1
MOST_PROMPTS, MOST_SEEDS = 8, 4
# A share of fewer pictures says little: one of eight is 12 %.
_PICTURES_WANTED = 8
# A training may draw its samples with larger numbers than an order of pictures takes.
_LARGEST_SEED = int(generation.FIELDS["/seed"].maximum or 0)
_MOST_STEPS = int(generation.FIELDS["/steps"].maximum or 0)


def evaluate_version(
    *,
    actor: Actor,
    version: LoraVersion,
    prompts: Sequence[str] | None = None,
    seeds: int | None = None,
    form_token: str = "",
) -> TrainingJob:
    """Queue the measuring of every file of `version` beside its base model alone, and return the job.

    `prompts` are those the training drew on the way, with some of the base model's where these are fewer than two;
    each is drawn with so many `seeds`, by default enough for eight pictures a file. Of more than `MOST_FILES` files,
    so many are taken, evenly spread. With `form_token` the same token gives the same job.
    Raise PermissionDenied, QuotaExceeded, InsufficientCredits, Conflict (archived project) or DomainError.
    """
    require(actor, Can.TRAINING_EDIT)
    version = _seen(actor, version)
    if version.model.project.archived_at is not None:
        raise Conflict("project_archived", _("This project is archived. Bring it back first."))
    base = FoundationModel.objects.filter(key=version.base_model, is_active=True).first()
    if base is None:
        raise DomainError(
            "base_model_unknown", _("The base model of this version is not offered here any more.")
        )
    if not (actor.api_key and actor.api_key.is_test):
        require_base(actor.team, base)
    files, left_out = _files_of(version)
    training = TrainingJob.objects.for_team(actor.team).filter(uid=version.training_uid).first()
    spec = _spec(version, base, files, training, prompts, seeds)
    findings = Findings(version.uid, Finding(), tuple(_unmeasured(file) for file in files), left_out)
    return queue_short_work(
        actor,
        JobKind.EVALUATION,
        form_token=form_token,
        project=version.model.project,
        foundation_model=base,
        name=str(version)[:80],
        spec=spec.to_dict(),
        spec_sha256=spec.sha256(),
        evaluation=findings.to_dict(),
        estimated_seconds=estimate_pictures(spec, base, team=actor.team),
        gpu_gb=gpu_gb_of_pictures(spec, base),
        total_steps=spec.total,
    )


def _seen(actor: Actor, version: LoraVersion) -> LoraVersion:
    """Return the version as the actor may see it, with its files."""
    rows = seen_by(actor, LoraVersion.objects.for_team(actor.team), "model__project")
    found: LoraVersion | None = (
        rows.filter(pk=version.pk).select_related("model__project").prefetch_related("files").first()
    )
    if found is None:
        raise DomainError(
            "model_version_unknown", _("There is no such model version."), pointer="/model_version"
        )
    return found


def _files_of(version: LoraVersion) -> tuple[list[LoraFile], int]:
    """Return the files to measure, by step, and how many are left out; the final one stands for its own step."""
    every = sorted(version.files.all(), key=lambda file: (file.step, file.is_final))
    final = {file.step for file in every if file.is_final}
    files = [file for file in every if file.is_final or file.step not in final]
    if not files:
        raise DomainError(
            "no_files", _("This model version has no file to measure."), pointer="/model_version"
        )
    count = min(len(files), MOST_FILES)
    chosen = [files[round((number + 1) * len(files) / count) - 1] for number in range(count)]
    return chosen, len(files) - count


def _spec(
    version: LoraVersion,
    base: FoundationModel,
    files: Sequence[LoraFile],
    training: TrainingJob | None,
    prompts: Sequence[str] | None,
    seeds: int | None,
) -> GenerationSpec:
    recipe = training.spec if training is not None else {}
    sampling = recipe.get("sampling", {})
    lines = [line.strip() for line in prompts or [] if line.strip()] or _own_prompts(version, base, sampling)
    most = MOST_PICTURES // ((len(files) + 1) * len(lines))
    side = int(recipe.get("training", {}).get("resolution") or base.resolution) // 8 * 8
    data = {
        "base_model": {"path": BASE_PATH, "family": base.family},
        "prompts": lines,
        "negative": sampling.get("negative", ""),
        "seed": min(sampling.get("seed", 42), _LARGEST_SEED),
        "count": min(seeds or -(-_PICTURES_WANTED // len(lines)), max(1, most)),
        "width": side,
        "height": side,
        "steps": min(sampling.get("steps", 20), _MOST_STEPS),
        "guidance": sampling.get("guidance", 7.0),
        "mixes": [[], *([{"file": file.uid, "version": version.uid}] for file in files)],
    }
    try:
        return GenerationSpec.from_dict(data)
    except SpecError as error:
        words = explain(error, generation.FIELDS)
        raise DomainError("invalid_settings", words, pointer=error.pointer) from error


def _own_prompts(version: LoraVersion, base: FoundationModel, sampling: dict[str, object]) -> list[str]:
    """Return what the training drew on the way; less than two different prompts cannot show whether any is followed."""
    own = sampling.get("prompts")
    drawn = [str(each) for each in own] if isinstance(own, list) else []
    offered = [with_trigger(str(each)) for each in base.prompts]
    lines: list[str] = []
    for number, prompt in enumerate([*drawn, *offered]):
        line = prompt.replace("{trigger}", version.trigger_words).strip(" ,")
        if line and line not in lines and (number < len(drawn) or not drawn or len(lines) < 2):
            lines.append(line)
    return lines[:MOST_PROMPTS] or [version.trigger_words or version.model.name]


def _unmeasured(file: LoraFile) -> Finding:
    return Finding(file.uid, file.filename, file.step, file.epoch, file.is_final)
