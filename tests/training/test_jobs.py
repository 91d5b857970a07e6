"""Making jobs: rights, limits, the frozen recipe, and once only."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEvent
from core.errors import Conflict, DomainError, NotFound, PermissionDenied, QuotaExceeded
from projects.models import Project
from tests.scenario import Scenario
from tests.training.rows import make_base, make_version
from training.engine.spec import RunSpec
from training.models import JobEvent, TrainingJob
from training.services.jobs import create_job, retry_job
from training.states import JobState


@pytest.fixture
def parts(scenario: Scenario) -> dict[str, object]:
    """What `create_job` needs of Alice's team."""
    return {
        "dataset_version": make_version(scenario.alice),
        "foundation_model": make_base(),
        "template": "style",
        "name": "Ink style",
        "trigger": "ink style",
    }


def _jobs(scenario: Scenario) -> int:
    return TrainingJob.objects.for_team(scenario.team).count()


def test_a_job_is_queued_with_a_frozen_valid_recipe(scenario: Scenario, parts: dict[str, object]) -> None:
    job = create_job(actor=scenario.alice, settings={"training.steps": 60}, **parts)  # type: ignore[arg-type]
    job.refresh_from_db()
    spec = RunSpec.from_dict(job.spec)
    assert (job.state, job.template, job.total_steps, job.last_seq) == (JobState.QUEUED, "style", 60, 1)
    assert (spec.name, spec.trigger, spec.training.steps, spec.method.rank) == (
        "Ink style",
        "ink style",
        60,
        8,
    )
    assert job.spec_sha256 == spec.sha256()
    assert job.created_by == scenario.alice.user
    assert job.estimated_seconds > 0
    events = list(JobEvent.objects.for_team(scenario.team).values_list("seq", "type", "data"))
    assert events == [(1, "status", {"state": "queued", "desired": ""})]
    verbs = AuditEvent.objects.for_team(scenario.team).values_list("verb", "subject_uid")
    assert list(verbs) == [("training.created", job.uid)]


def test_viewer_cannot_start_a_job(scenario: Scenario, parts: dict[str, object]) -> None:
    with pytest.raises(PermissionDenied):
        create_job(actor=scenario.bob, **parts)  # type: ignore[arg-type]
    assert _jobs(scenario) == 0


def test_stranger_cannot_train_on_pictures_of_another_team(
    scenario: Scenario, parts: dict[str, object]
) -> None:
    with pytest.raises(NotFound):
        create_job(actor=scenario.charlie, **parts)  # type: ignore[arg-type]
    assert TrainingJob.objects.for_team(scenario.charlie.team).count() == 0


def test_waiting_jobs_are_limited(scenario: Scenario, parts: dict[str, object], settings: Any) -> None:
    settings.TEAM_MAX_QUEUED = 1
    create_job(actor=scenario.alice, **parts)  # type: ignore[arg-type]
    with pytest.raises(QuotaExceeded) as refused:
        create_job(actor=scenario.alice, **parts)  # type: ignore[arg-type]
    assert refused.value.extra["quota"] == "queued_trainings"
    assert (refused.value.extra["limit"], refused.value.extra["used"]) == (1, 1)
    assert _jobs(scenario) == 1


def test_the_same_form_twice_makes_one_job(scenario: Scenario, parts: dict[str, object]) -> None:
    first = create_job(actor=scenario.alice, form_token="t1", **parts)  # type: ignore[arg-type]
    again = create_job(actor=scenario.alice, form_token="t1", **parts)  # type: ignore[arg-type]
    other = create_job(actor=scenario.alice, form_token="t2", **parts)  # type: ignore[arg-type]
    assert again.pk == first.pk != other.pk
    assert _jobs(scenario) == 2


def test_wrong_settings_are_refused_with_their_place(scenario: Scenario, parts: dict[str, object]) -> None:
    with pytest.raises(DomainError) as refused:
        create_job(actor=scenario.alice, settings={"method": {"rank": 0}}, **parts)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.pointer) == ("invalid_settings", "settings/method/rank")
    assert _jobs(scenario) == 0


def test_archived_project_trains_nothing(scenario: Scenario, parts: dict[str, object]) -> None:
    Project.objects.for_team(scenario.team).update(archived_at=timezone.now())
    parts["dataset_version"].dataset.project.refresh_from_db()  # type: ignore[attr-defined]
    with pytest.raises(Conflict):
        create_job(actor=scenario.alice, **parts)  # type: ignore[arg-type]
    assert _jobs(scenario) == 0


def test_retry_applies_the_patch_and_points_back(scenario: Scenario, parts: dict[str, object]) -> None:
    old = create_job(actor=scenario.alice, settings={"training.seed": 7}, **parts)  # type: ignore[arg-type]
    TrainingJob.objects.for_team(scenario.team).filter(pk=old.pk).update(
        state=JobState.FAILED, finished_at=timezone.now()
    )
    old.refresh_from_db()
    new = retry_job(actor=scenario.alice, job=old, patch={"/training/batch_size": 4})
    before, after = RunSpec.from_dict(old.spec), RunSpec.from_dict(new.spec)
    assert after == dataclasses.replace(before, training=dataclasses.replace(before.training, batch_size=4))
    assert (new.retry_of_id, new.state, new.name) == (old.pk, JobState.QUEUED, old.name)
    old.refresh_from_db()
    assert old.state == JobState.FAILED


@pytest.mark.parametrize(("was", "level"), [(True, "all"), (False, "off")])
def test_a_job_from_when_checkpointing_was_a_switch_is_retried_with_what_it_meant(
    scenario: Scenario, parts: dict[str, object], was: bool, level: str
) -> None:
    old = create_job(actor=scenario.alice, **parts)  # type: ignore[arg-type]
    spec = {**old.spec, "training": {**old.spec["training"], "gradient_checkpointing": was}}
    TrainingJob.objects.for_team(scenario.team).filter(pk=old.pk).update(
        state=JobState.FAILED, finished_at=timezone.now(), spec=spec
    )
    old.refresh_from_db()
    new = retry_job(actor=scenario.alice, job=old)
    assert new.spec["training"]["gradient_checkpointing"] == level
    other = retry_job(actor=scenario.alice, job=old, patch={"training.gradient_checkpointing": True})
    assert other.spec["training"]["gradient_checkpointing"] == "all"


def test_unfinished_job_cannot_be_retried(scenario: Scenario, parts: dict[str, object]) -> None:
    job = create_job(actor=scenario.alice, **parts)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        retry_job(actor=scenario.alice, job=job)
    assert _jobs(scenario) == 1


def test_a_queued_job_wakes_a_worker(
    scenario: Scenario,
    parts: dict[str, object],
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        create_job(actor=scenario.alice, **parts)  # type: ignore[arg-type]
    assert "send_ticket" in [callback.__name__ for callback in callbacks]
