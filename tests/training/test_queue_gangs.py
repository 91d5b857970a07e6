"""Trainings on several GPUs: slots of one machine taken at once, held back for a while, and given back always."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import BillingAccount, Plan, UsageEntry
from tests.scenario import Scenario
from tests.training.queueing import Bench, attempts, end_now, fresh, let_lease_end, make_machine, make_worker
from training.models import TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.gang import give_back_what_nobody_uses, most_gpus
from training.queue.outlook import look_ahead, outlook_of
from training.queue.policy import Rules
from training.queue.room import make_room
from training.queue.standing import standing_of
from training.queue.sweep import reap_expired_leases
from training.queue.usage import used_of_late
from training.services import lifecycle

HOLD = Rules().hold_for


def lent(job: TrainingJob) -> list[str]:
    return sorted(Worker.objects.filter(lent_to=job).values_list("name", flat=True))


@pytest.fixture
def bench(scenario: Scenario, settings: Any) -> Bench:
    settings.TEAM_MAX_RUNNING = 10
    bench = Bench(scenario.alice)
    Worker.objects.all().delete()
    return bench


def test_a_job_on_two_gpus_takes_two_slots_of_one_machine_at_once(bench: Bench) -> None:
    slots = make_machine("one", 3)
    job, single = bench.job("double", waited=500, gpus=2), bench.job("single", waited=100)
    lease = claim_next(slots[1])
    assert lease is not None
    assert (lease.job_uid, lease.slots, lent(job)) == (job.uid, (1, 0), ["one:0"])
    assert claim_next(slots[0]) is None
    other = claim_next(slots[2])
    assert other is not None
    assert (other.job_uid, other.slots) == (single.uid, (2,))


def test_a_job_on_one_gpu_lends_nothing(bench: Bench) -> None:
    (slot, _other) = make_machine("one", 2)
    bench.job()
    lease = claim_next(slot)
    assert lease is not None
    assert lease.slots == (0,)
    assert not Worker.objects.exclude(lent_to=None).exists()


def test_a_claim_on_one_gpu_asks_nothing_about_the_others(bench: Bench) -> None:
    def queries(slot: Worker) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert claim_next(slot) is not None
        return len(captured)

    bench.job("first", waited=300)
    alone = queries(make_machine("alone", 1)[0])
    slots = make_machine("large", 8)
    bench.job("second", waited=200)
    bench.job("double", waited=100, gpus=2)
    assert queries(slots[0]) == alone
    assert queries(slots[1]) == alone + 5  # the room, the best again and its plan, the others, the loan


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "busy"},
        {"state": "draining"},
        {"state": "quarantined"},
        {"state": "lost"},
        {"memory_mb": 8188},
        {"memory_mb": 0},
        {"node": "another"},
        {"seen_at": timezone.now() - timedelta(minutes=5)},
        {"reserved_until": timezone.now() + timedelta(hours=1)},
    ],
    ids=lambda fields: next(iter(fields)),  # the same name in every process
)
def test_a_slot_that_is_not_free_or_too_small_is_not_lent(bench: Bench, fields: dict[str, Any]) -> None:
    slot, other = make_machine("one", 2)
    Worker.objects.filter(pk=other.pk).update(**fields)
    job = bench.job("double", gpus=2, gpu_gb=24)
    assert claim_next(slot) is None
    assert (fresh(job).state, lent(job)) == ("queued", [])


def test_a_slot_at_work_that_still_says_idle_is_not_lent(bench: Bench) -> None:
    slot, other = make_machine("one", 2)
    bench.job("single", waited=500)
    assert claim_next(other) is not None  # its row says busy only a moment later
    job = bench.job("double", gpus=2)
    assert claim_next(slot) is None
    assert lent(job) == []


def test_a_lent_slot_that_is_started_anew_takes_nothing(bench: Bench) -> None:
    slot, other = make_machine("one", 2)
    bench.job("double", waited=500, gpus=2)
    assert claim_next(slot) is not None
    bench.job("single")
    again = make_worker(other.name, node="one", number=1, memory_mb=24_564)
    assert claim_next(again) is None
    bench.job("double too", gpus=2)
    third = make_worker("one:2", node="one", number=2, memory_mb=24_564)
    lease = claim_next(third)
    assert lease is not None
    assert lease.slots == (2,)  # the single one: the slot of two processes is one slot, and lent


@pytest.mark.parametrize("way", ["cancel", "pause", "requeue", "preempt", "crash", "fail", "reap", "delete"])
def test_slots_are_given_back_at_every_end_of_an_attempt(bench: Bench, way: str) -> None:
    slot, _other = make_machine("one", 2)
    job = bench.job("double", gpus=2)
    lease = claim_next(slot)
    assert lease is not None
    assert lent(job) == ["one:1"]
    report = lifecycle.CrashReport("x", "y")
    ends = {
        "cancel": lifecycle.cancel_job_now,
        "pause": lifecycle.pause_job_now,
        "requeue": lambda row: lifecycle.requeue_job(row, "worker_restarts"),
        "preempt": lambda row: lifecycle.preempt_job_now(row, has_saved=True),
        "crash": lambda row: lifecycle.crash_job(row, report),
        "fail": lambda row: lifecycle.fail_job(row, report),
    }
    if way in ends:
        with transaction.atomic():
            ends[way](lifecycle.hold(lease))
    elif way == "reap":
        let_lease_end(job)
        assert reap_expired_leases() == 1
    else:
        TrainingJob.jobs.for_team(job.team).filter(pk=job.pk).delete()
    assert not Worker.objects.exclude(lent_to=None).exists()


def test_the_clock_takes_back_what_a_job_that_runs_no_longer_has(bench: Bench) -> None:
    slot, other = make_machine("one", 2)
    job = bench.job("double", gpus=2)
    assert claim_next(slot) is not None
    assert give_back_what_nobody_uses() == 0
    TrainingJob.objects.for_team(job.team).filter(pk=job.pk).update(state="paused", lease_until=None)
    assert give_back_what_nobody_uses() == 1
    assert Worker.objects.get(pk=other.pk).lent_to is None


def test_free_slots_wait_for_the_best_job_until_it_has_enough(bench: Bench) -> None:
    slots = make_machine("one", 3)
    bench.job("running", waited=9000)
    running = claim_next(slots[0])
    assert running is not None
    triple = bench.job("triple", waited=5000, gpus=3)
    single = bench.job("single", waited=100)
    assert [claim_next(slots[2]), claim_next(slots[1]), claim_next(slots[2])] == [None, None, None]
    row = fresh(triple)
    assert (row.held_node, fresh(single).state) == ("one", "queued")
    assert row.held_since is not None
    end_now(running)
    lease = claim_next(slots[0])
    assert lease is not None
    assert (lease.job_uid, lease.slots) == (triple.uid, (0, 1, 2))
    assert (fresh(triple).held_since, fresh(triple).held_node) == (None, "")


def test_slots_wait_no_longer_than_they_may_and_begin_anew_after_as_long(bench: Bench) -> None:
    slots = make_machine("one", 2)
    bench.job("running", waited=90_000)
    assert claim_next(slots[0]) is not None
    double = bench.job("double", waited=50_000, gpus=2)
    assert claim_next(slots[1]) is None
    rows = TrainingJob.objects.for_team(double.team).filter(pk=double.pk)
    single = bench.job("single", waited=100)

    def held_for(seconds: float) -> None:
        rows.update(held_since=timezone.now() - timedelta(seconds=seconds))

    held_for(HOLD - 5)
    assert claim_next(slots[1]) is None
    held_for(HOLD + 5)
    lease = claim_next(slots[1])
    assert lease is not None
    assert lease.job_uid == single.uid
    end_now(lease)
    bench.job("single too", waited=100)
    held_for(2 * HOLD + 5)
    assert claim_next(slots[1]) is None
    since = rows.get().held_since
    assert since is not None
    assert timezone.now() - since < timedelta(seconds=30)


def test_only_one_machine_holds_slots_back_for_a_job(bench: Bench) -> None:
    here, there = make_machine("here", 2), make_machine("there", 2)
    for slot in (here[0], there[0]):
        bench.job("running", waited=9000)
        assert claim_next(slot) is not None
    double, single = bench.job("double", waited=5000, gpus=2), bench.job("single", waited=100)
    assert claim_next(here[1]) is None
    lease = claim_next(there[1])
    assert lease is not None
    assert lease.job_uid == single.uid
    end_now(lease)
    Worker.objects.filter(pk=there[0].pk).update(state="idle")
    TrainingJob.objects.for_team(double.team).filter(worker=there[0]).update(worker=None)
    started = claim_next(there[1])  # where there are enough it starts, whoever holds some
    assert started is not None
    assert started.job_uid == double.uid


def test_a_machine_that_is_too_small_passes_it_over(bench: Bench) -> None:
    small = make_machine("small", 1)
    triple, single = bench.job("triple", waited=5000, gpus=3), bench.job("single", waited=100)
    lease = claim_next(small[0])
    assert lease is not None
    assert lease.job_uid == single.uid
    assert fresh(triple).held_since is None


def test_a_better_job_takes_a_slot_that_is_held_back(bench: Bench) -> None:
    slots = make_machine("one", 2)
    bench.job("running", waited=9000)
    assert claim_next(slots[0]) is not None
    bench.job("double", waited=1000, gpus=2)
    assert claim_next(slots[1]) is None
    older = bench.job("older", waited=4000)
    lease = claim_next(slots[1])
    assert lease is not None
    assert lease.job_uid == older.uid


def test_two_gpus_count_twice_for_use_and_money_and_once_for_the_limit(bench: Bench) -> None:
    slots = make_machine("one", 2)
    job = bench.job("double", gpus=2, estimated_seconds=1000, rate=2.0)
    lease = claim_next(slots[0])
    assert lease is not None
    assert used_of_late(job.team, Rules()) == pytest.approx(2000, abs=1)
    assert standing_of(job.team, Rules()).running == 1
    job.attempts.update(started_at=timezone.now() - timedelta(seconds=100))
    with transaction.atomic():
        lifecycle.pause_job_now(lifecycle.hold(lease))
    assert used_of_late(job.team, Rules()) == pytest.approx(200, abs=2)
    (entry,) = UsageEntry.objects.for_team(job.team).filter(job_uid=job.uid)
    assert entry.seconds == pytest.approx(200, abs=2)  # of both
    assert attempts(job) == [(1, "paused")]


def test_slots_held_back_are_free_for_nobody(bench: Bench) -> None:
    """Pictures do not wait for a slot that is kept for a job on two GPUs: the training beside it lets them pass."""
    slots = make_machine("one", 2)
    running = bench.job("running", waited=9000)
    assert claim_next(slots[0]) is not None
    rows = TrainingJob.objects.for_team(running.team)
    rows.update(state="running", eta_seconds=6000)
    running.attempts.update(started_at=timezone.now() - timedelta(minutes=20))
    Worker.objects.filter(pk=slots[0].pk).update(state="busy")
    bench.job("double", waited=40_000, gpus=2)
    bench.order(waited=30)
    assert claim_next(slots[1]) is None  # held back
    assert make_room() == 1
    assert fresh(running).desired == "yield"


def test_no_single_slot_is_emptied_for_a_job_that_needs_two(bench: Bench) -> None:
    BillingAccount.objects.create(team=bench.actor.team, plan=Plan.objects.get(key="enterprise"))
    make_machine("one", 2)
    bench.job("double", waited=9000, gpus=2)
    assert make_room() == 0


def test_the_forecast_gathers_slots_of_one_machine(bench: Bench) -> None:
    slots = make_machine("one", 2)
    running = bench.job("running", waited=9000)
    assert claim_next(slots[0]) is not None
    TrainingJob.objects.for_team(running.team).filter(pk=running.pk).update(eta_seconds=600)
    double = bench.job("double", waited=5000, gpus=2, estimated_seconds=1000)
    single = bench.job("single", waited=100)
    eight = bench.job("eight", waited=8000, gpus=8)
    look_ahead()
    assert outlook_of(fresh(double)).wait_seconds == pytest.approx(600, abs=2)
    assert outlook_of(fresh(single)).wait_seconds == pytest.approx(1600, abs=2)
    assert (outlook_of(fresh(eight)).wait_seconds, outlook_of(fresh(eight)).reason) == (None, "worker")


def test_the_most_gpus_are_those_of_the_largest_machine(bench: Bench) -> None:
    assert most_gpus() == 1
    make_machine("here", 2)
    make_machine("there", 3)
    make_machine("no gpu", 5, memory_mb=0)
    assert most_gpus() == 3
    Worker.objects.filter(node="there").update(seen_at=timezone.now() - timedelta(days=2))
    assert most_gpus() == 2
