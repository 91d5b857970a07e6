"""A training on two slots of one machine with real engines: a killed process, the same weights, slots given back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.training.engines import (
    Shop,
    Studio,
    WorkerProcess,
    assert_whole,
    is_state,
    reached,
    reap_and,
    wait_for,
    weights,
)
from tests.training.queueing import attempts, events, fresh
from training.models import TrainingJob, Worker
from training.services import control

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


class Pair:
    """Two slots of one machine."""

    def __init__(self, var: Path) -> None:
        self.workers = [WorkerProcess(var, "--gpu", str(n), "--name", f"slot {n}") for n in range(2)]

    def ranks(self) -> list[psutil.Process]:
        """Return the processes of the run under way, the leader first."""
        found = [
            each
            for worker in self.workers
            if worker.process.poll() is None
            for each in psutil.Process(worker.process.pid).children(recursive=True)
            if "training.engine.rank" in each.cmdline()
        ]
        return sorted(found, key=lambda each: int(each.environ()["RANK"]))

    def leader(self) -> WorkerProcess:
        """Return the worker that runs the job."""
        (leader,) = [
            worker
            for worker in self.workers
            if any(
                "training.engine.launch" in each.cmdline()
                for each in psutil.Process(worker.process.pid).children()
            )
        ]
        return leader

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()


@pytest.fixture
def pair(shop: Shop) -> Iterator[Pair]:
    pair = Pair(shop.var)
    wait_for(lambda: Worker.objects.filter(state="idle").count() == 2)
    yield pair
    pair.close()


def double(studio: Studio, steps: int, *, like: TrainingJob | None = None) -> TrainingJob:
    """Queue a job on two slots."""
    job = studio.job(steps=steps, like=like, gpus=2)
    assert job.gpus == 2
    return job


def test_a_killed_process_of_two_is_resumed_to_the_same_weights_and_slots_come_back(
    studio: Studio, pair: Pair
) -> None:
    quiet = double(studio, 40)
    wait_for(lambda: is_state(quiet, "succeeded", "failed"))
    assert_whole(quiet, 40)
    assert not Worker.objects.exclude(lent_to=None).exists()
    hit = double(studio, 40, like=quiet)
    wait_for(lambda: reached(hit, 22))
    assert Worker.objects.filter(lent_to=hit).count() == 1
    pair.ranks()[1].send_signal(signal.SIGKILL)
    wait_for(lambda: is_state(hit, "succeeded", "failed"))
    assert_whole(hit, 40)
    assert [outcome for _, outcome in attempts(hit)] == ["crashed", "succeeded"]
    warnings = [data["code"] for _, kind, data in events(hit) if kind == "warning" and "crashes" in data]
    assert warnings == ["rank_lost"]
    assert weights(hit) == weights(quiet)
    assert not Worker.objects.exclude(lent_to=None).exists()


def test_a_killed_worker_takes_both_processes_with_it(studio: Studio, pair: Pair) -> None:
    job = double(studio, 400)
    wait_for(lambda: reached(job, 5))
    ranks, leader = pair.ranks(), pair.leader()
    assert len(ranks) == 2
    leader.kill()
    wait_for(lambda: not any(each.is_running() and each.status() != "zombie" for each in ranks), seconds=5)
    wait_for(lambda: reap_and(job, "queued"), seconds=15)
    assert not Worker.objects.exclude(lent_to=None).exists()


def test_a_job_on_two_slots_is_paused_and_goes_on(studio: Studio, pair: Pair) -> None:
    job = double(studio, 60)
    wait_for(lambda: reached(job, 12))
    control.pause_job(actor=studio.actor, job=job)
    wait_for(lambda: is_state(job, "paused"), seconds=30)
    rested = fresh(job).step
    assert not pair.ranks()
    assert not Worker.objects.exclude(lent_to=None).exists()
    control.resume_job(actor=studio.actor, job=job)
    wait_for(lambda: is_state(job, "succeeded", "failed"))
    assert_whole(job, 60)
    assert [outcome for _, outcome in attempts(job)] == ["paused", "succeeded"]
    assert job.attempts.get(fence=2).first_step == rested
