"""Make training jobs: from a form or a request, and again from an old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from accounts.services.audit import audit
from billing.entitlements import plan_of
from core.errors import Conflict, DomainError, NotFound
from core.quotas import demand, demand_feature
from projects.models import DatasetVersion
from projects.visibility import seen_by
from training.advisor.templates import template_for
from training.engine.spec import RunSpec
from training.models import FoundationModel, TrainingJob
from training.queue.gang import most_gpus
from training.queue.policy import class_of_need
from training.services.announce import announce_state
from training.services.estimates import estimate_run
from training.services.express import place_in_line, rate_of
from training.services.form_tokens import make_once
from training.services.lifecycle import append_events
from training.services.metering import reserve
from training.services.recipes import (
    Recipe,
    best_device,
    change_recipe,
    describe_base,
    describe_pictures,
    make_recipe,
    require_valid,
)
from training.states import JobState, Simulated
from training.tasks import wake


def create_job(
    *,
    actor: Actor,
    dataset_version: DatasetVersion,
    foundation_model: FoundationModel,
    template: str,
    name: str,
    trigger: str = "",
    settings: Mapping[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    simulate: str = "",
    hard_cap_seconds: int | None = None,
    priority: str = "standard",
    gpus: int = 1,
    form_token: str = "",
) -> TrainingJob:
    """Queue a training of `dataset_version` on `foundation_model` and return its job.

    A test key's training is simulated and ends as `simulate` says (`training.states.Simulated`).

    `settings` holds the values that differ from the recommended ones, by JSON pointer (`/training/steps`), dotted
    (`training.steps`) or nested. `prompts` replaces the sample prompts; `{trigger}` in them is filled in. With
    `form_token` the same token gives the same job, however often and however fast it is sent.
    `hard_cap_seconds` is the most GPU time it may be charged; at the cap it saves and rests. One with the priority
    `express` starts sooner, and each of its seconds is charged as more than one. On several `gpus` of one machine
    each second is charged as so many.
    Raise PermissionDenied, NotFound, QuotaExceeded, PlanFeatureRequired, InsufficientCredits, Conflict (archived
    project) or DomainError with `invalid_settings` or `too_many_gpus`.
    """
    require(actor, Can.TRAINING_EDIT)
    _same_team(actor, dataset_version)
    chosen = template_for(template)
    if not foundation_model.is_active:
        raise DomainError(
            "base_model_retired",
            _("“%(name)s” is not offered any more. Choose another base model.") % {"name": foundation_model},
            pointer="base_model",
        )
    if not dataset_version.item_count:
        raise DomainError(
            "no_pictures",
            _("This version has no pictures. Add some and freeze a new version."),
            pointer="dataset_version",
        )
    recipe = make_recipe(
        base=describe_base(foundation_model),
        template=chosen,
        pictures=describe_pictures(dataset_version),
        device=best_device(),
        name=_clean_name(name),
        trigger=trigger,
        settings=settings,
        prompts=prompts,
    )
    return _queue(
        actor,
        spec=require_valid(recipe),
        dataset_version=dataset_version,
        foundation_model=foundation_model,
        template=chosen.key.value,
        retry_of=None,
        metadata=metadata,
        simulate=simulate,
        hard_cap_seconds=hard_cap_seconds,
        is_express=priority == "express",
        gpus=gpus,
        form_token=form_token,
    )


def retry_job(
    *, actor: Actor, job: TrainingJob, patch: Mapping[str, Any] | None = None, form_token: str = ""
) -> TrainingJob:
    """Queue a new job with the recipe of a finished one and `patch` on top; return the new job.

    Nothing leaves a final state, so a retry is a job of its own that points to the old one. Raise Conflict while
    the old one is not finished, and what `create_job` raises.
    """
    require(actor, Can.TRAINING_EDIT)
    if job.team_id != actor.team.pk:
        raise NotFound
    if not job.is_finished:
        raise Conflict(
            "not_finished",
            _("This training is not finished yet. Cancel it first, or wait."),
            state=job.state,
        )
    recipe = change_recipe(job.spec, patch or {}, name=job.name)
    return _queue_again(actor, job, recipe, retry_of=job, form_token=form_token)


def clone_job(
    *, actor: Actor, job: TrainingJob, patch: Mapping[str, Any] | None = None, name: str = ""
) -> TrainingJob:
    """Queue a new job like `job`, whatever became of that one, with `patch` on top; raise what `create_job` raises."""
    require(actor, Can.TRAINING_EDIT)
    if job.team_id != actor.team.pk:
        raise NotFound
    recipe = change_recipe(job.spec, patch or {}, name=_clean_name(name) if name else job.name)
    return _queue_again(actor, job, recipe, retry_of=None, form_token="")


def _queue_again(
    actor: Actor, job: TrainingJob, recipe: Recipe, *, retry_of: TrainingJob | None, form_token: str
) -> TrainingJob:
    return _queue(
        actor,
        spec=require_valid(recipe),
        dataset_version=job.pictures,
        foundation_model=job.base,
        template=job.template,
        retry_of=retry_of,
        metadata=job.metadata,
        simulate=_outcome_again(actor, job),
        hard_cap_seconds=job.hard_cap_seconds,
        is_express=job.is_express and plan_of(actor.team).is_metered,
        # As many as before, as far as a machine still has them.
        gpus=min(job.gpus, most_gpus(job.gpu_gb)) if job.gpus > 1 else 1,
        form_token=form_token,
    )


def change_job(
    *,
    actor: Actor,
    job: TrainingJob,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    hard_cap_seconds: int | None = None,
) -> TrainingJob:
    """Rename a training, replace the caller's notes on it or move its cap; what is None stays.

    Its recipe is frozen for good.

    A model version that it still has to make goes to the model of the new name.
    """
    require(actor, Can.TRAINING_EDIT)
    with transaction.atomic():
        row: TrainingJob | None = (
            seen_by(actor, TrainingJob.objects.for_team(actor.team))
            .select_for_update(no_key=True, of=("self",))
            .filter(pk=job.pk)
            .first()
        )
        if row is None:
            raise NotFound
        before = _told(row)
        row.name = _clean_name(name) if name is not None else row.name
        row.metadata = dict(metadata) if metadata is not None else row.metadata
        row.hard_cap_seconds = hard_cap_seconds if hard_cap_seconds is not None else row.hard_cap_seconds
        after = _told(row)
        if after != before:
            row.save(update_fields=list(after))
            audit(actor, "training.changed", row, before=before, after=after)
    return row


def _told(job: TrainingJob) -> dict[str, Any]:
    return {"name": job.name, "metadata": job.metadata, "hard_cap_seconds": job.hard_cap_seconds}


def _queue(
    actor: Actor,
    *,
    spec: RunSpec,
    dataset_version: DatasetVersion,
    foundation_model: FoundationModel,
    template: str,
    retry_of: TrainingJob | None,
    metadata: Mapping[str, str] | None = None,
    simulate: str = "",
    hard_cap_seconds: int | None = None,
    is_express: bool = False,
    gpus: int = 1,
    form_token: str,
) -> TrainingJob:
    is_test = _is_test(actor, simulate)
    project = dataset_version.dataset.project
    if project.archived_at is not None:
        raise Conflict("project_archived", _("This project is archived. Bring it back first."))
    estimate = estimate_run(
        spec, foundation_model, team=actor.team, pictures=dataset_version.item_count, gpus=gpus
    )
    rate = rate_of(actor.team, is_express=is_express, gpus=gpus)
    if not is_test:
        require_gpus(gpus, spec, class_of_need(estimate.memory_mb))
        demand(actor.team, "steps_per_training", adding=estimate.steps, pointer="/settings/training/steps")
        require_base(actor.team, foundation_model)

    def make() -> TrainingJob:
        if not is_test:
            demand(actor.team, "queued_trainings")
            demand(actor.team, "trainings_a_month")
        now = timezone.now()
        job: TrainingJob = TrainingJob.objects.create(
            team=actor.team,
            project=project,
            dataset_version=dataset_version,
            foundation_model=foundation_model,
            name=spec.name,
            template=template,
            spec=spec.to_dict(),
            spec_sha256=spec.sha256(),
            created_by=actor.user,
            retry_of=retry_of,
            state=JobState.QUEUED,
            queued_at=now,
            line_at=place_in_line(now, is_express=is_express),
            is_express=is_express,
            rate=rate,
            gpus=gpus,
            estimated_seconds=estimate.seconds,
            gpu_gb=class_of_need(estimate.memory_mb),
            total_steps=estimate.steps,
            metadata=dict(metadata or {}),
            is_test=is_test,
            hard_cap_seconds=hard_cap_seconds,
            simulate=(simulate or Simulated.SUCCESS.value) if is_test else "",
        )
        reserve(job, estimate.seconds)
        append_events(job, [("status", now, {"state": JobState.QUEUED.value, "desired": ""})])
        job.save(update_fields=["last_seq"])
        announce_state(job)
        audit(actor, "training.created", job, retry_of=retry_of.uid if retry_of else None)
        wake(job)
        return job

    return make_once(actor.team, form_token, spec.sha256(), make)


def require_base(team: Team, base: FoundationModel) -> None:
    """Raise PlanFeatureRequired unless the team's plan includes a base model."""
    if not base.is_standard:
        message = _("“%(name)s” is not part of your plan. Choose another base model.") % {"name": base.name}
        demand_feature(team, "all_base_models", message, pointer="/base_model")


def require_gpus(gpus: int, spec: RunSpec, gpu_gb: int) -> None:
    """Raise DomainError unless some machine has so many GPUs of a class for one training, and each has work to do."""
    if gpus == 1:
        return
    pictures = spec.training.batch_size * spec.training.gradient_accumulation
    if gpus > pictures and best_device().memory_mb:
        raise DomainError(
            "too_many_gpus",
            _(
                "A step has %(pictures)s pictures, so more GPUs than that would idle. Raise the batch size first."
            )
            % {"pictures": pictures},
            pointer="/gpus",
        )
    most = most_gpus(gpu_gb)
    if gpus > most:
        raise DomainError(
            "too_many_gpus",
            _("No machine here has %(gpus)s GPUs for one training. The most is %(most)s.")
            % {"gpus": gpus, "most": most},
            pointer="/gpus",
        )


def _is_test(actor: Actor, simulate: str) -> bool:
    """Tell whether the actor's trainings are simulated; raise DomainError where an outcome is asked of a real one."""
    is_test = bool(actor.api_key and actor.api_key.is_test)
    if simulate and not is_test:
        raise DomainError(
            "simulate_needs_test_key",
            _("Only a test key (lf_test_...) can choose how a training ends."),
            pointer="/simulate",
        )
    return is_test


def _outcome_again(actor: Actor, job: TrainingJob) -> str:
    """Return the outcome of an old test training for a new one; a live key's training is a real one."""
    return job.simulate if actor.api_key and actor.api_key.is_test else ""


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise DomainError("name_missing", _("Give the training a name."), pointer="name")
    return name[:80]


def _same_team(actor: Actor, dataset_version: DatasetVersion) -> None:
    if dataset_version.team_id != actor.team.pk:
        raise NotFound
