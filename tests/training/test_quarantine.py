"""A slot on which three different jobs crash in a row takes no more until an operator lets it."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import User
from tests.scenario import Scenario
from tests.training.queueing import Bench, fresh
from training.models import TrainingJob, Worker
from training.queue.lease import Lease
from training.queue.quarantine import count_crashes, is_quarantined, of_before
from training.services import lifecycle
from training.services.lifecycle import CrashReport


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    return Bench(scenario.alice)


def run(bench: Bench, *, crashes: bool, code: str = "engine_killed") -> str:
    """Run the next job on the slot, crash or end it well, and return the slot's state after it."""
    lease: Lease = bench.claim()
    job = TrainingJob.objects.for_team(bench.actor.team).get(pk=lease.job_id)
    if crashes:
        lifecycle.crash_job(job, CrashReport(code, "gone"))
    else:
        lifecycle.cancel_job_now(job)
    TrainingJob.objects.for_team(bench.actor.team).update(run_after=None)
    return str(count_crashes(bench.worker, lease, code if crashes else ""))


def test_three_jobs_in_a_row_put_a_slot_into_quarantine(bench: Bench, client: Client) -> None:
    states = []
    for number in range(3):
        bench.job(f"job {number}")
        states.append(run(bench, crashes=True))
        TrainingJob.objects.for_team(bench.actor.team).filter(name=f"job {number}").update(state="paused")
    assert states == ["idle", "idle", "quarantined"]
    Worker.objects.filter(pk=bench.worker.pk).update(state="quarantined")
    assert is_quarantined(bench.worker, "quarantined")
    assert of_before("slot") == bench.worker  # a new process of the same slot is not let off
    operator = User.objects.create_superuser("root@example.org", "a long pass phrase")
    client.force_login(operator)
    chosen = {"action": "release_from_quarantine", "_selected_action": [bench.worker.pk]}
    assert client.post("/admin/training/worker/", chosen).status_code == 302
    assert not is_quarantined(bench.worker, Worker.objects.get(pk=bench.worker.pk).state)
    assert of_before("slot") is None
    assert Worker.objects.get(pk=bench.worker.pk).crashes_in_a_row == 0


def test_one_job_that_crashes_again_and_again_is_its_own_fault(bench: Bench) -> None:
    job = bench.job()
    assert [run(bench, crashes=True) for _time in range(3)] == ["idle", "idle", "idle"]
    assert fresh(job).state == "failed"
    assert Worker.objects.get(pk=bench.worker.pk).crashes_in_a_row == 1


def test_a_job_that_ends_well_begins_the_count_anew(bench: Bench) -> None:
    for number in range(2):
        bench.job(f"job {number}")
        run(bench, crashes=True)
        TrainingJob.objects.for_team(bench.actor.team).filter(name=f"job {number}").update(state="paused")
    bench.job("good")
    assert run(bench, crashes=False) == "idle"
    assert Worker.objects.get(pk=bench.worker.pk).crashes_in_a_row == 0


def test_storage_that_is_away_puts_no_slot_aside(bench: Bench) -> None:
    for number in range(4):
        bench.job(f"job {number}")
        assert run(bench, crashes=True, code="storage_unavailable") == "idle"
        TrainingJob.objects.for_team(bench.actor.team).filter(name=f"job {number}").update(state="paused")
