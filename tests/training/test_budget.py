"""GPU time is reserved at the start, charged for what was useful, and a training that has used its own up rests."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.balances import balances_of
from billing.models import Account, LedgerTransaction
from billing.selectors import charged_for
from billing.services.ledger import InsufficientCredits, add_bought, funds_of, held_for, hold
from core.errors import QuotaExceeded
from notifications.models import Notification
from tests.api.clients import API, with_token
from tests.billing.plans import on_plan
from tests.scenario import Scenario
from tests.training.queueing import Bench, fresh, statuses
from training.models import Attempt, TrainingJob
from training.queue.budget import rest_spent_jobs
from training.services import control, lifecycle
from training.services.jobs import change_job, clone_job
from training.services.lifecycle import CrashReport


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    on_plan(scenario, "pro", gpu_seconds_a_month=10_000)
    return Bench(scenario.alice)


def ran_for(job: TrainingJob, seconds: float) -> None:
    """Let the open attempt have begun so long ago."""
    began = timezone.now() - timedelta(seconds=seconds)
    Attempt.objects.for_team(job.team).filter(job=job, ended_at=None).update(started_at=began)


def held(job: TrainingJob) -> int:
    return sum(held_for(job.team, job.uid).values())


def test_a_start_reserves_the_estimate_with_a_margin_and_the_end_gives_the_rest_back(bench: Bench) -> None:
    job = bench.job()
    reserved = held(job)
    assert reserved == pytest.approx(job.estimated_seconds * 1.2, abs=1)
    bench.claim()
    ran_for(job, 50)
    control.cancel_job(actor=bench.actor, job=job)
    lifecycle.cancel_job_now(fresh(job))
    assert charged_for(job.team, job.uid) == 50
    assert held(job) == 0
    assert funds_of(job.team).total == 10_000 - 50


def test_too_little_time_starts_nothing_and_holds_nothing(scenario: Scenario, bench: Bench) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=10)
    with pytest.raises(InsufficientCredits):
        bench.job()
    assert not TrainingJob.objects.for_team(scenario.team).exists()
    assert not any(balances_of(scenario.team).values())
    answer = with_token(scenario.alice).post(
        f"{API}/trainings",
        {"dataset_version": bench.version.uid, "base_model": "demo", "template": "style", "name": "Run"},
        format="json",
        headers={"Idempotency-Key": "k"},
    )
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
    assert answer.json()["available_seconds"] == 10


def test_work_that_a_crash_of_ours_lost_is_free(bench: Bench) -> None:
    job = bench.job()
    bench.claim()
    ran_for(job, 40)
    lifecycle.crash_job(fresh(job), CrashReport("worker_lost", "gone"))
    assert charged_for(job.team, job.uid) == 0
    assert held(job) > 0
    TrainingJob.objects.for_team(job.team).update(run_after=None)
    bench.claim()
    ran_for(job, 30)
    lifecycle.pause_job_now(fresh(job))
    assert charged_for(job.team, job.uid) == 30
    assert held(job) == 0


def test_a_run_that_takes_longer_gets_more_and_at_the_end_of_all_time_it_rests(
    bench: Bench,
) -> None:
    job = bench.job()
    first = held(job)
    bench.claim()
    assert rest_spent_jobs() == 0
    ran_for(job, first - 10)
    assert rest_spent_jobs() == 0
    assert held(job) == first + 600
    # Somebody else of the team reserves all that is left.
    hold(job.team, job_uid="trn_other", seconds=funds_of(job.team).total)
    ran_for(job, first + 590)
    assert rest_spent_jobs() == 1
    assert rest_spent_jobs() == 0
    row = fresh(job)
    assert (row.desired, row.rest_reason) == ("pause", "insufficient_credits")
    told = Notification.objects.get(kind="training.rests")
    assert told.title == f"“{job.name}” rests: the GPU time of Atelier is used up"
    lifecycle.pause_job_now(fresh(job))
    assert charged_for(job.team, job.uid) == first + 590
    with pytest.raises(InsufficientCredits):
        control.resume_job(actor=bench.actor, job=fresh(job))
    assert fresh(job).state == "paused"
    add_bought(job.team, seconds=5_000, key="topup:1")
    resumed = control.resume_job(actor=bench.actor, job=fresh(job))
    assert (resumed.state, resumed.rest_reason) == ("queued", "")
    assert 0 < balances_of(job.team)[Account.HELD_BOUGHT] < held(job)
    assert statuses(job)[-2:] == ["paused", "queued"]


def test_the_cap_of_a_training_holds_and_can_be_raised(bench: Bench) -> None:
    job = bench.job()
    change_job(actor=bench.actor, job=job, hard_cap_seconds=held(job))
    bench.claim()
    ran_for(job, held(job) - 5)
    assert rest_spent_jobs() == 1
    assert fresh(job).rest_reason == "hard_cap_reached"
    lifecycle.pause_job_now(fresh(job))
    cap = fresh(job).hard_cap_seconds or 0
    assert charged_for(job.team, job.uid) <= cap
    change_job(actor=bench.actor, job=fresh(job), hard_cap_seconds=cap + 600)
    control.resume_job(actor=bench.actor, job=fresh(job))
    assert charged_for(job.team, job.uid) + held(job) <= cap + 600


def test_a_team_without_metering_and_a_test_key_reserve_nothing(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    bench.claim()
    ran_for(job, 40)
    lifecycle.pause_job_now(fresh(job))
    assert not LedgerTransaction.objects.for_team(scenario.team).exists()


def test_what_was_learned_is_kept_when_all_time_is_used_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job()
    bench.claim()
    TrainingJob.objects.for_team(job.team).filter(pk=job.pk).update(step=10)
    lifecycle.pause_job_now(fresh(job))
    hold(job.team, job_uid="trn_other", seconds=funds_of(job.team).total)
    monkeypatch.setattr(control, "has_state", lambda job: True)
    kept = control.stop_job(actor=bench.actor, job=fresh(job))
    assert (kept.state, kept.desired) == ("queued", "stop")


def test_a_job_that_ended_meanwhile_is_given_no_more_time(bench: Bench) -> None:
    job = bench.job()
    bench.claim()
    ran_for(job, held(job))
    lifecycle.cancel_job_now(fresh(job))
    rest_spent_jobs()
    assert held(job) == 0


def test_a_cap_that_is_lowered_holds_and_goes_on_with_a_copy(bench: Bench) -> None:
    job = bench.job()
    change_job(actor=bench.actor, job=job, hard_cap_seconds=60)
    bench.claim()
    ran_for(job, 40)
    assert rest_spent_jobs() == 1
    lifecycle.pause_job_now(fresh(job))
    assert charged_for(job.team, job.uid) == 40
    assert clone_job(actor=bench.actor, job=fresh(job)).hard_cap_seconds == 60


def test_resuming_counts_against_the_waiting_ones(scenario: Scenario, bench: Bench) -> None:
    first = bench.job()
    control.pause_job(actor=bench.actor, job=first)
    on_plan(scenario, "pro", queued_trainings=1)
    bench.job()
    with pytest.raises(QuotaExceeded):
        control.resume_job(actor=bench.actor, job=fresh(first))
    assert fresh(first).state == "paused"
