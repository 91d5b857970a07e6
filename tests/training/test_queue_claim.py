"""Claiming: every job once, in order, within each team's limit."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from billing.models import BillingAccount, Plan
from tests.scenario import Scenario, make_scenario
from tests.training.queueing import Bench, attempts, events, fresh, make_worker
from training.models import TrainingJob, Worker
from training.queue import claim
from training.queue.claim import claim_next
from training.queue.lease import renew
from training.queue.outlook import look_ahead
from training.states import LIVE, JobState


def test_the_job_that_waited_longest_is_claimed_first(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    bench.job("young", waited=10)
    old = bench.job("old", waited=500)
    bench.job("middle", waited=100)
    lease = bench.claim()
    assert (lease.job_uid, lease.fence) == (old.uid, 1)


def test_a_claim_writes_state_lease_attempt_and_event_together(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    row = fresh(job)
    assert (row.state, row.fence, row.worker, row.last_seq) == ("starting", 1, bench.worker, 2)
    assert row.lease_until is not None
    assert 50 < (row.lease_until - timezone.now()).total_seconds() <= 61
    assert attempts(job) == [(1, "")]
    assert events(job) == [
        (1, "status", {"state": "queued", "desired": ""}),
        (2, "status", {"state": "starting", "desired": ""}),
    ]
    assert renew(lease) == ""


def test_an_empty_queue_gives_nothing(scenario: Scenario) -> None:
    assert claim_next(make_worker()) is None


def test_a_team_at_its_limit_lets_others_pass(scenario: Scenario, settings: Settings) -> None:
    settings.TEAM_MAX_RUNNING = 2
    busy, other = Bench(scenario.alice), Bench(scenario.charlie)
    for number in range(3):
        busy.job(f"job {number}", waited=5000 - number)
    late = other.job("late", waited=1)
    leases = [busy.claim(), busy.claim(), busy.claim()]
    assert leases[2].job_uid == late.uid
    assert claim_next(busy.worker) is None


def test_each_running_job_of_a_team_costs_its_next_one_a_quarter_of_an_hour(scenario: Scenario) -> None:
    busy, other = Bench(scenario.alice), Bench(scenario.charlie)
    busy.job("first", waited=5000)
    second = busy.job("second", waited=4000)
    stranger = other.job("stranger", waited=3200)
    assert busy.claim().fence == 1
    # 4000 - 900 = 3100 < 3200
    assert busy.claim().job_uid == stranger.uid
    assert busy.claim().job_uid == second.uid


def test_a_job_in_back_off_is_left_alone_until_its_time(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job(run_after=timezone.now() + timedelta(seconds=30))
    assert claim_next(bench.worker) is None
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(run_after=timezone.now())
    assert bench.claim().job_uid == job.uid


@pytest.mark.django_db(transaction=True)
def test_eight_claimers_at_once_give_every_job_to_one_of_them(settings: Settings) -> None:
    settings.TEAM_MAX_RUNNING = 10
    scenario = make_scenario()
    benches = [Bench(scenario.alice), Bench(scenario.charlie)]
    for number in range(10):
        for bench in benches:
            bench.job(f"job {number}", waited=1000 - number)
    claimed = _claim_in_threads(8)
    assert Counter(Counter(claimed).values()) == {1: 20}


@pytest.mark.django_db(transaction=True)
def test_concurrent_claimers_keep_to_the_limit_of_a_team(settings: Settings) -> None:
    settings.TEAM_MAX_RUNNING = 3
    scenario = make_scenario()
    bench = Bench(scenario.alice)
    for number in range(12):
        bench.job(f"job {number}")
    claimed = _claim_in_threads(8)
    assert len(claimed) == len(set(claimed)) == 3
    live = TrainingJob.objects.for_team(scenario.team).filter(state__in=LIVE)
    assert live.count() == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("locked", "expected"), [(True, 1), (False, 2)])
def test_the_limit_of_a_team_rests_on_the_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, locked: bool, expected: int
) -> None:
    """While one claim is under way an older job arrives and another worker claims. Without the lock both start."""
    settings.TEAM_MAX_RUNNING = 1
    bench = Bench(make_scenario().alice)
    bench.job("first", waited=10)
    chosen, go_on = threading.Event(), threading.Event()
    move = claim.move

    def slow_move(job: TrainingJob, target: JobState, **told: Any) -> None:
        if job.name == "first":
            chosen.set()
            go_on.wait(10)
        move(job, target, **told)

    monkeypatch.setattr(claim, "move", slow_move)
    if not locked:
        monkeypatch.setattr(claim, "take_turn", lambda: None)
    claims = [_claim_thread(bench.worker)]
    assert chosen.wait(10)
    bench.job("older", waited=1000)
    claims.append(_claim_thread(make_worker("second")))
    claims[1].join(0.5)
    go_on.set()
    for thread in claims:
        thread.join(10)
    assert TrainingJob.objects.for_team(bench.actor.team).filter(state__in=LIVE).count() == expected


def _claim_thread(worker: Worker) -> threading.Thread:
    def run() -> None:
        try:
            claim_next(worker)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _claim_in_threads(count: int) -> list[str]:
    """Claim from `count` threads until nothing is left; return the uids."""
    claimed: list[str] = []
    start = threading.Barrier(count, timeout=10)
    workers = [make_worker(f"slot {number}") for number in range(count)]

    def run(number: int) -> None:
        try:
            start.wait()
            while lease := claim_next(workers[number]):
                claimed.append(lease.job_uid)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return claimed


def test_the_plan_gives_a_head_start_a_weight_and_a_limit_and_a_change_acts_at_once(
    scenario: Scenario,
) -> None:
    mine, theirs = Bench(scenario.alice), Bench(scenario.charlie, base=None, name="Theirs")
    old = theirs.job(waited=600)
    new = mine.job(waited=10)
    pro = Plan.objects.get(key="pro")  # half an hour of head start
    BillingAccount.objects.create(team=scenario.team, plan=pro)
    look_ahead()
    assert (fresh(new).place, fresh(old).place) == (1, 2)
    first = claim_next(mine.worker)
    assert first is not None
    assert first.job_uid == new.uid
    # A running job counts 900 s, halved by the weight of 2.
    newer = mine.job(waited=10)
    look_ahead()
    assert fresh(newer).place == 1
    Plan.objects.filter(pk=pro.pk).update(running_trainings=1)
    second = claim_next(make_worker())
    assert second is not None
    assert second.job_uid == old.uid
    assert claim_next(make_worker()) is None
    BillingAccount.objects.for_team(scenario.team).update(plan=Plan.objects.get(key="team"))
    third = claim_next(make_worker())
    assert third is not None
    assert third.job_uid == newer.uid
