"""The claim against the policy, over the database: exact order, use of late, classes of GPUs, reservations."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Team
from accounts.roles import Role
from billing.models import BillingAccount, Plan
from tests.factories import TeamFactory, make_member
from tests.scenario import Scenario
from tests.training.queueing import Bench, fresh, make_worker
from training.models import Attempt, QueueSettings, TeamUsage, TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.outlook import look_ahead, outlook_of
from training.queue.policy import Rules, score
from training.queue.standing import standing_of
from training.queue.usage import charge, used_of_late
from training.services import lifecycle
from training.services.express import place_in_line
from training.states import JobState

HOUR = 3600.0


@pytest.fixture
def crowd(db: None) -> list[Team]:
    """Eight teams on all plans with forty waiting trainings and 24 orders of several sizes."""
    dice = random.Random(7)
    plans = list(Plan.objects.filter(key__in=["free", "pro", "team", "enterprise"]))
    teams = []
    for number in range(8):
        team = TeamFactory(name=f"Crowd {number}")
        bench = Bench(make_member(team, Role.OWNER), name=f"Set {number}")
        for _job in range(5):
            job = bench.job(waited=dice.uniform(0, 30_000), gpu_gb=dice.choice([0, 8, 24]))
            if dice.random() < 0.3:  # some paid for express
                rows = TrainingJob.objects.for_team(team).filter(pk=job.pk)
                rows.update(line_at=place_in_line(job.queued_at, is_express=True), is_express=True)
        for _order in range(3):
            bench.order(waited=dice.uniform(0, 10_000), gpu_gb=dice.choice([0, 8]))
        BillingAccount.objects.create(team=team, plan=plans[number % 4])
        as_of = timezone.now() - timedelta(days=dice.uniform(0, 20))
        TeamUsage.objects.create(team=team, seconds=dice.uniform(0, 60 * HOUR), as_of=as_of)
        teams.append(team)
    return teams


def best_by_hand(teams: list[Team], slot_gb: int) -> int | None:
    """Return the job that the pure policy would start."""
    rules, able = Rules(), []
    for team in teams:
        standing = standing_of(team, rules)
        for job in TrainingJob.jobs.for_team(team).filter(state=JobState.QUEUED, gpu_gb__lte=slot_gb):
            if not standing.is_full(job.is_short):
                points = score(
                    rules,
                    standing,
                    queued_at=job.line_at.timestamp(),
                    gpu_gb=job.gpu_gb,
                    slot_gb=slot_gb,
                    is_short=job.is_short,
                )
                able.append((points, job.pk))
    return min(able)[1] if able else None


def test_every_claim_takes_what_the_policy_says(crowd: list[Team]) -> None:
    dice = random.Random(3)
    workers = {gb: make_worker(f"{gb} GB", memory_mb=gb * 1024) for gb in (8, 24)}
    claimed = 0
    while True:
        gb = dice.choice([8, 24])
        expected = best_by_hand(crowd, gb)
        lease = claim_next(workers[gb])
        assert (lease.job_id if lease else None) == expected
        if lease is None and best_by_hand(crowd, 24) is None:
            break
        claimed += lease is not None
    # Free and pro teams run one and two of each sort, so some of their jobs are still waiting.
    assert claimed == 2 * (1 + 2 + 5 + 5) + 2 * (1 + 2 + 3 + 3)


def test_a_team_that_used_much_of_late_waits_longer_and_a_larger_weight_less(scenario: Scenario) -> None:
    mine, theirs = Bench(scenario.alice), Bench(scenario.charlie, name="Theirs")
    old = mine.job(waited=3000)
    young = theirs.job(waited=100)
    charge(scenario.team, 6 * HOUR)  # 6 x 600 s back
    assert theirs.claim().job_uid == young.uid
    again = theirs.job(waited=100)
    BillingAccount.objects.create(
        team=scenario.team, plan=Plan.objects.create(key="heavy", name="Heavy", weight=6)
    )
    assert theirs.claim().job_uid == old.uid
    assert fresh(again).state == JobState.QUEUED


def test_use_is_charged_at_the_start_and_put_right_at_the_end(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job(estimated_seconds=1000)
    rules = Rules()
    bench.claim()
    assert used_of_late(scenario.team, rules) == pytest.approx(1000, abs=1)
    began = timezone.now() - timedelta(seconds=400)
    Attempt.objects.for_team(scenario.team).filter(job=job).update(started_at=began)
    lifecycle.pause_job_now(fresh(job))
    assert used_of_late(scenario.team, rules) == pytest.approx(400, abs=2)


def test_the_operators_constants_act_at_once(scenario: Scenario) -> None:
    mine, theirs = Bench(scenario.alice), Bench(scenario.charlie, name="Theirs")
    mine.job(waited=3000)
    young = theirs.job(waited=100)
    charge(scenario.team, 1 * HOUR)
    QueueSettings.objects.create(pk=1, seconds_per_gpu_hour=10_000)
    assert theirs.claim().job_uid == young.uid


def test_a_gpu_takes_what_fits_and_prefers_what_needs_it(scenario: Scenario, settings: Any) -> None:
    settings.TEAM_MAX_RUNNING = 10
    bench = Bench(scenario.alice)
    large = bench.job("large", waited=300, gpu_gb=24)
    small = bench.job("small", waited=800, gpu_gb=8)
    slot = make_worker("24 GB", memory_mb=24_564)
    assert claim_next(make_worker("8 GB", memory_mb=8188)) is not None
    assert fresh(small).state == JobState.STARTING
    small_too = bench.job("small too", waited=800, gpu_gb=8)
    first = claim_next(slot)
    assert first is not None
    assert first.job_uid == large.uid  # 800 - 600 s < 300 s
    second = claim_next(make_worker("another", memory_mb=24_564))
    assert second is not None
    assert second.job_uid == small_too.uid


def test_a_processor_leaves_what_needs_a_gpu_to_gpus_where_there_are_some(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job(gpu_gb=8)
    gpu = make_worker("gpu", memory_mb=8188)
    assert claim_next(bench.worker) is None
    Worker.objects.filter(pk=gpu.pk).update(seen_at=timezone.now() - timedelta(days=2))
    assert bench.claim().job_uid == job.uid


def test_a_job_that_no_gpu_fits_says_which_it_waits_for(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    make_worker("8 GB", memory_mb=8188)
    job = bench.job(gpu_gb=24)
    look_ahead()
    outlook = outlook_of(fresh(job))
    assert (outlook.reason, outlook.gpu_gb, outlook.wait_seconds) == ("gpu", 24, None)


def test_a_reserved_slot_takes_its_job_first_and_once(scenario: Scenario) -> None:
    bench, other = Bench(scenario.alice), Bench(scenario.charlie, name="Theirs")
    bench.job("old", waited=5000)
    chosen = other.job("chosen", waited=1)
    rows = Worker.objects.filter(pk=bench.worker.pk)
    rows.update(reserved_for=chosen.pk, reserved_until=timezone.now() + timedelta(seconds=60))
    assert bench.claim().job_uid == chosen.uid
    assert rows.get().reserved_for is None
    late = other.job("late", waited=1)
    rows.update(reserved_for=late.pk, reserved_until=timezone.now() - timedelta(seconds=1))
    assert bench.claim().job_uid != late.uid


def test_a_reserved_slot_keeps_to_the_limit_of_the_team(scenario: Scenario, settings: Any) -> None:
    settings.TEAM_MAX_RUNNING = 1
    bench = Bench(scenario.alice)
    bench.job("running", waited=100)
    bench.claim()
    chosen = bench.job("chosen", waited=50)
    slot = make_worker("reserved", reserved_for=chosen, reserved_until=timezone.now() + timedelta(seconds=60))
    assert claim_next(slot) is None


def test_two_jobs_with_one_score_are_foreseen_in_their_order(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    jobs = [bench.job(f"job {number}") for number in range(3)]
    TrainingJob.objects.for_team(scenario.team).update(line_at=timezone.now())
    assert look_ahead() == 3
    assert [fresh(job).place for job in jobs] == [1, 2, 3]


def test_the_forecast_and_the_claim_agree_on_a_processor_that_takes_everything(scenario: Scenario) -> None:
    """Nothing is a misfit there, also beside a job of the largest class."""
    bench = Bench(scenario.alice)
    small, large = bench.job("small", waited=500, gpu_gb=0), bench.job("large", waited=100, gpu_gb=192)
    medium = bench.job("medium", waited=300, gpu_gb=24)
    look_ahead()
    assert [fresh(job).place for job in (small, medium, large)] == [1, 2, 3]
    claimed = []
    for _job in range(3):
        lease = bench.claim()
        claimed.append(lease.job_uid)
        TrainingJob.objects.for_team(scenario.team).filter(uid=lease.job_uid).update(
            state=JobState.CANCELED, finished_at=timezone.now(), lease_until=None
        )
    assert claimed == [small.uid, medium.uid, large.uid]


def test_a_small_job_is_a_misfit_on_a_large_gpu_in_the_forecast_as_in_the_claim(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    Worker.objects.exclude(pk=bench.worker.pk).delete()
    Worker.objects.filter(pk=bench.worker.pk).update(memory_mb=24_000)
    bench.worker.refresh_from_db()
    small, large = bench.job("small", waited=500, gpu_gb=8), bench.job("large", waited=100, gpu_gb=24)
    look_ahead()
    assert [fresh(job).place for job in (large, small)] == [1, 2]
    assert bench.claim().job_uid == large.uid
