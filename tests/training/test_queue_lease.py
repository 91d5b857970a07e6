"""Leases, fences, reaping: what a stale worker can do (nothing) and what becomes of its job."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from billing.models import UsageEntry
from core.models import OutboxMessage
from tests.scenario import Scenario
from tests.training.queueing import Bench, attempts, events, fresh, let_lease_end, make_worker, statuses
from training.engine import events as told
from training.models import MetricChunk, TrainingJob, Worker
from training.models.worker import WorkerState
from training.queue.lease import renew, wish
from training.queue.sweep import notice_lost_workers, reap_expired_leases, top_up_tickets
from training.services import control, lifecycle, telemetry
from training.services.lifecycle import CrashReport, LeaseLost
from training.states import JobState
from training.tasks import gpu_ticket


def _metrics(step: int, loss: float) -> tuple[told.Event, object]:
    event = told.Metrics(step, 60, 1, 2.0, 10.0, 100, {"loss": [(step, loss)]})
    return event, timezone.now()


def test_a_reaped_job_waits_again_with_a_higher_fence(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    let_lease_end(job)
    assert reap_expired_leases() == 1
    row = fresh(job)
    assert (row.state, row.fence, row.crashes, row.lease_until, row.worker) == ("queued", 2, 1, None, None)
    assert row.run_after is None  # the first retry is at once
    assert statuses(job) == ["queued", "starting", "queued"]
    assert attempts(job) == [(1, "crashed")]
    assert renew(lease) is None
    assert wish(lease) is None


def test_a_lease_that_still_runs_is_not_reaped(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    bench.claim()
    assert reap_expired_leases() == 0
    assert fresh(job).state == "starting"


def test_a_stale_worker_can_write_nothing(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    stale = bench.claim()
    let_lease_end(job)
    reap_expired_leases()
    lease = bench.claim()
    before = events(job)
    with pytest.raises(LeaseLost):
        telemetry.record(stale, Path("/nowhere"), [_metrics(1, 0.5)])  # type: ignore[list-item]
    with pytest.raises(LeaseLost):
        lifecycle.hold(stale)
    assert events(job) == before
    assert not MetricChunk.objects.for_team(scenario.team).exists()
    assert telemetry.record(lease, Path("/nowhere"), [_metrics(1, 0.5)]) == ""  # type: ignore[list-item]
    assert fresh(job).step == 1


def test_later_crashes_wait_and_the_third_ends_the_job(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    waits = []
    for _crash in range(3):
        bench.claim()
        let_lease_end(job)
        reap_expired_leases()
        row = fresh(job)
        waits.append(round((row.run_after - timezone.now()).total_seconds()) if row.run_after else 0)
        TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(run_after=None)
    assert waits == [0, 30, 0]
    row = fresh(job)
    assert (row.state, row.error_code, row.error_category) == ("failed", "worker_lost", "platform")
    assert attempts(job) == [(1, "crashed"), (3, "crashed"), (5, "crashed")]
    assert list(OutboxMessage.objects.values_list("actor", "subject_uid")) == [("mail_outcome", job.uid)]
    useful = UsageEntry.objects.for_team(scenario.team).values_list("attempt", "useful")
    assert sorted(useful) == [(1, False), (3, False), (5, False)]


def test_a_reaped_job_that_should_be_canceled_is_canceled(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    bench.claim()
    control.cancel_job(actor=scenario.alice, job=job)
    let_lease_end(job)
    reap_expired_leases()
    row = fresh(job)
    assert (row.state, row.desired) == ("canceled", "")
    assert statuses(job)[-1] == "canceled"


def test_a_reaped_job_that_should_be_paused_is_paused(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    bench.claim()
    control.pause_job(actor=scenario.alice, job=job)
    let_lease_end(job)
    reap_expired_leases()
    assert fresh(job).state == "paused"
    assert statuses(job)[-2:] == ["queued", "paused"]


def test_a_job_that_should_stop_and_keep_is_finished_by_the_next_worker(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    telemetry.record(lease, Path("/nowhere"), [_metrics(7, 0.5)])  # type: ignore[list-item]
    control.stop_job(actor=scenario.alice, job=job)
    let_lease_end(job)
    reap_expired_leases()
    assert (fresh(job).state, fresh(job).desired) == ("queued", "stop")
    assert renew(bench.claim()) == "stop"


def test_a_crash_reported_by_the_worker_frees_the_job_at_once(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    from django.db import transaction

    with transaction.atomic():
        report = CrashReport("engine_killed", "ended by signal 9", log=["one", "two"])
        lifecycle.crash_job(lifecycle.hold(lease), report)
    assert fresh(job).state == "queued"
    warning = [data for _seq, kind, data in events(job) if kind == "warning"]
    assert [(w["code"], w["crashes"], w["log"]) for w in warning] == [("engine_killed", 1, ["one", "two"])]
    assert bench.claim().fence == 2


def test_a_forbidden_move_is_refused(scenario: Scenario) -> None:
    job = Bench(scenario.alice).job()
    with pytest.raises(lifecycle.ForbiddenMove):
        lifecycle.move(job, JobState.SUCCEEDED)
    assert fresh(job).state == "queued"


def test_tickets_are_topped_up_to_what_idle_workers_can_take(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(scenario.alice)
    make_worker("busy", state=WorkerState.BUSY)
    for number in range(3):
        bench.job(f"job {number}")
    sent: list[str] = []
    monkeypatch.setattr(gpu_ticket, "send", lambda: sent.append("ticket"))
    assert top_up_tickets() == 1
    assert sent == ["ticket"]
    make_worker("second")
    assert top_up_tickets() == 2


def test_a_silent_worker_is_noticed(scenario: Scenario) -> None:
    silent = make_worker(seen_at=timezone.now() - timedelta(minutes=2))
    alive = make_worker()
    gone = make_worker(seen_at=timezone.now() - timedelta(days=8), state=WorkerState.LOST)
    assert notice_lost_workers() == 1
    states = dict(Worker.objects.values_list("pk", "state"))
    assert states == {silent.pk: "lost", alive.pk: "idle"}
    assert gone.pk not in states
