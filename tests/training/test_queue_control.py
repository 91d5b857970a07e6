"""Cancel, stop, pause and resume, in every state a job can be in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from accounts.models import AuditEvent
from core.errors import Conflict, NotFound, PermissionDenied
from tests.scenario import Scenario
from tests.training.queueing import Bench, attempts, events, fresh, statuses
from training.engine import events as told
from training.models import Checkpoint, TrainingJob
from training.queue.claim import claim_next
from training.queue.lease import renew
from training.services import control, lifecycle, telemetry
from training.states import LIVE, TERMINAL, JobState

LIVE_STATES = sorted(LIVE)


def put_into(job: TrainingJob, state: str, **fields: object) -> TrainingJob:
    """Put a job into a state as its worker would have left it."""
    values: dict[str, object] = {"state": state, "lease_until": None, "finished_at": None, **fields}
    if state in LIVE:
        values["lease_until"] = timezone.now() + timedelta(seconds=60)
    if state in TERMINAL:
        values["finished_at"] = timezone.now()
    TrainingJob.objects.for_team(job.team).filter(pk=job.pk).update(**values)
    return fresh(job)


@pytest.mark.parametrize("state", ["queued", "paused"])
def test_a_resting_job_is_canceled_at_once(scenario: Scenario, state: str) -> None:
    bench = Bench(scenario.alice)
    job = put_into(bench.job(), state)
    control.cancel_job(actor=scenario.alice, job=job)
    row = fresh(job)
    assert (row.state, row.desired) == ("canceled", "")
    assert row.finished_at is not None
    assert statuses(job) == ["queued", "canceled"]
    assert claim_next(bench.worker) is None
    verbs = AuditEvent.objects.for_team(scenario.team).values_list("verb", flat=True)
    assert "training.cancel" in list(verbs)


@pytest.mark.parametrize("state", LIVE_STATES)
def test_cancel_of_a_live_job_is_a_wish_its_worker_carries_out(scenario: Scenario, state: str) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    job = put_into(job, state)
    control.cancel_job(actor=scenario.alice, job=job)
    row = fresh(job)
    assert (row.state, row.desired) == (state, "cancel")
    assert events(job)[-1][1:] == ("status", {"state": state, "desired": "cancel"})
    assert renew(lease) == "cancel"
    from django.db import transaction

    with transaction.atomic():
        lifecycle.cancel_job_now(lifecycle.hold(lease))
    assert (fresh(job).state, fresh(job).desired) == ("canceled", "")
    assert attempts(job) == [(1, "canceled")]


@pytest.mark.parametrize("state", sorted(TERMINAL - {JobState.CANCELED}))
def test_a_finished_job_cannot_be_canceled(scenario: Scenario, state: str) -> None:
    job = put_into(Bench(scenario.alice).job(), state)
    before = events(job)
    with pytest.raises(Conflict) as refused:
        control.cancel_job(actor=scenario.alice, job=job)
    assert refused.value.code == "finished"
    assert (fresh(job).state, events(job)) == (state, before)


def test_canceling_twice_changes_nothing_more(scenario: Scenario) -> None:
    job = Bench(scenario.alice).job()
    control.cancel_job(actor=scenario.alice, job=job)
    before = events(job)
    control.cancel_job(actor=scenario.alice, job=job)
    assert events(job) == before


def test_a_stronger_wish_replaces_a_weaker_one_and_never_the_other_way(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    bench.claim()
    put_into(job, "running", step=5)
    control.pause_job(actor=scenario.alice, job=job)
    assert fresh(job).desired == "pause"
    control.stop_job(actor=scenario.alice, job=job)
    assert fresh(job).desired == "stop"
    with pytest.raises(Conflict):
        control.pause_job(actor=scenario.alice, job=job)
    control.cancel_job(actor=scenario.alice, job=job)
    control.stop_job(actor=scenario.alice, job=job)
    assert fresh(job).desired == "cancel"


def test_stopping_before_the_first_step_is_refused_with_advice(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    with pytest.raises(Conflict) as waiting:
        control.stop_job(actor=scenario.alice, job=job)
    bench.claim()
    with pytest.raises(Conflict) as starting:
        control.stop_job(actor=scenario.alice, job=job)
    assert (waiting.value.code, starting.value.code) == ("nothing_learned", "nothing_learned")
    assert fresh(job).desired == ""


def test_a_paused_job_with_a_checkpoint_can_be_stopped_and_kept(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = put_into(bench.job(), "paused", step=20)
    Checkpoint.objects.create(
        team=job.team, job=job, fence=1, step=20, epoch=1, state_key="teams/x/runs/y/1/s"
    )
    control.stop_job(actor=scenario.alice, job=job)
    assert (fresh(job).state, fresh(job).desired) == ("queued", "stop")
    assert renew(bench.claim()) == "stop"


def test_pause_and_resume_of_a_waiting_job(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    control.pause_job(actor=scenario.alice, job=job)
    assert claim_next(bench.worker) is None
    control.resume_job(actor=scenario.alice, job=job)
    assert bench.claim().job_uid == job.uid
    assert statuses(job) == ["queued", "paused", "queued", "starting"]


def test_a_job_being_finished_cannot_be_paused(scenario: Scenario) -> None:
    job = put_into(Bench(scenario.alice).job(), "finalizing")
    with pytest.raises(Conflict) as refused:
        control.pause_job(actor=scenario.alice, job=job)
    assert refused.value.code == "finishing"


@pytest.mark.parametrize("state", [*LIVE_STATES, *sorted(TERMINAL)])
def test_only_a_paused_job_can_be_resumed(scenario: Scenario, state: str) -> None:
    job = put_into(Bench(scenario.alice).job(), state)
    with pytest.raises(Conflict):
        control.resume_job(actor=scenario.alice, job=job)
    assert fresh(job).state == state


@pytest.mark.parametrize(
    "change", [control.cancel_job, control.stop_job, control.pause_job, control.resume_job]
)
def test_a_viewer_and_a_stranger_change_nothing(scenario: Scenario, change: object) -> None:
    job = Bench(scenario.alice).job()
    before = events(job)
    with pytest.raises(PermissionDenied):
        change(actor=scenario.bob, job=job)  # type: ignore[operator]
    with pytest.raises(NotFound):
        change(actor=scenario.charlie, job=job)  # type: ignore[operator]
    assert (fresh(job).state, events(job)) == ("queued", before)


def test_a_wish_comes_back_with_every_batch_of_events(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    control.cancel_job(actor=scenario.alice, job=job)
    log = told.Log("info", "hello"), timezone.now()
    assert telemetry.record(lease, Path("/nowhere"), [log]) == "cancel"
