"""Whole runs with a real engine: the end of every kind, and the same weights after every kind of death."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import TextIO

import psutil
import pytest

from accounts.models import AuditEvent
from accounts.roles import Role
from billing.models import BillingAccount, Plan
from core.models import OutboxMessage
from projects.models import LoraFile, LoraSample, LoraVersion
from tests.factories import TeamFactory, make_member
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
from tests.training.queueing import attempts, events, fresh, make_worker, statuses
from training.models import (
    Attempt,
    Checkpoint,
    JobEvent,
    QueueSettings,
    Sample,
    Worker,
)
from training.queue.claim import claim_next
from training.queue.room import make_room
from training.services import control

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_a_job_runs_to_a_registered_version(studio: Studio, shop: Shop) -> None:
    job = studio.job()
    shop.worker()
    wait_for(lambda: is_state(job, "succeeded", "failed"))
    assert_whole(job, 40)
    assert statuses(job) == ["queued", "starting", "running", "finalizing", "succeeded"]
    version = LoraVersion.objects.for_team(job.team).get(training_uid=job.uid)
    assert (version.steps, version.rank, version.trigger_words) == (40, 8, "ink style")
    assert version.verified_keys > 0
    files = LoraFile.objects.for_team(job.team).order_by("step", "is_final")
    assert [(file.step, file.is_final) for file in files] == [
        (10, False),
        (20, False),
        (30, False),
        (40, False),
        (40, True),
    ]
    drawn = LoraSample.objects.for_team(job.team).order_by("step")
    assert [(each.step, each.with_lora) for each in drawn] == [(0, False), (40, True)]
    assert fresh(job).evaluation["style_distance"] is not None  # type: ignore[index]
    assert list(OutboxMessage.objects.values_list("actor", "subject_uid")) == [("mail_outcome", job.uid)]
    wait_for(lambda: not (shop.var / "runs" / job.uid).exists(), seconds=15)
    assert Checkpoint.objects.for_team(job.team).exclude(state_key="").count() == 0
    assert attempts(job) == [(1, "succeeded")]


def test_a_killed_engine_is_resumed_to_the_same_weights(studio: Studio, shop: Shop) -> None:
    process = shop.worker()
    quiet = studio.job(steps=60)
    wait_for(lambda: is_state(quiet, "succeeded"))
    hit = studio.job(steps=60, like=quiet)
    wait_for(lambda: reached(hit, 25))
    process.engine().send_signal(signal.SIGKILL)
    wait_for(lambda: is_state(hit, "succeeded", "failed"))
    assert_whole(quiet, 60)
    assert_whole(hit, 60)
    assert [outcome for _, outcome in attempts(hit)] == ["crashed", "succeeded"]
    assert Attempt.objects.for_team(hit.team).get(job=hit, fence=2).first_step >= 20
    assert weights(hit) == weights(quiet)


def test_an_engine_killed_before_its_first_checkpoint_ends_with_the_same_weights(
    studio: Studio, shop: Shop
) -> None:
    process = shop.worker()
    hit = studio.job(steps=100, checkpoint_every=100)
    wait_for(lambda: reached(hit, 1))
    measured = fresh(hit).threads
    process.engine().send_signal(signal.SIGKILL)
    wait_for(lambda: is_state(hit, "succeeded", "failed"))
    first, second = Attempt.objects.for_team(hit.team).filter(job=hit).order_by("fence")
    assert (first.outcome, second.outcome, second.first_step) == ("crashed", "succeeded", 0)
    warm_ups = JobEvent.objects.for_team(hit.team).filter(job=hit, type="phase", data__phase="warm_up")
    assert set(warm_ups.values_list("fence", flat=True)) == {first.fence}
    assert fresh(hit).threads == measured > 0
    quiet = studio.job(steps=100, checkpoint_every=100, like=hit)
    wait_for(lambda: is_state(quiet, "succeeded", "failed"))
    assert weights(hit) == weights(quiet)


def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(studio: Studio, shop: Shop) -> None:
    process = shop.worker()
    quiet = studio.job(steps=60)
    wait_for(lambda: is_state(quiet, "succeeded"))
    hit = studio.job(steps=60, like=quiet)
    wait_for(lambda: reached(hit, 25))
    engine = process.engine()
    process.kill()
    wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, seconds=5)
    wait_for(lambda: reap_and(hit, "queued"), seconds=10)
    shop.worker()
    wait_for(lambda: is_state(hit, "succeeded", "failed"))
    assert_whole(hit, 60)
    assert [outcome for _, outcome in attempts(hit)] == ["crashed", "succeeded"]
    assert weights(hit) == weights(quiet)


def steps_told(witness: TextIO) -> list[tuple[float, int]]:
    """Return (unix time, step) of an attempt as its engine wrote them down, whoever listened."""
    witness.seek(0)
    lines = [json.loads(line) for line in witness if line.endswith("\n")]
    told = [line for line in lines if line["type"] == "metrics"]
    return [(datetime.fromisoformat(line["at"]).timestamp(), line["step"]) for line in told]


def test_without_its_switch_the_engine_of_a_frozen_worker_would_train_beside_the_next_attempt(
    studio: Studio, shop: Shop
) -> None:
    """What the switch is for: two engines make the same job's steps at once as soon as one of them lacks it."""
    shop.close()
    frozen = WorkerProcess(shop.var, LF_ENGINE_LEASE_SECONDS="600")
    job = studio.job(steps=20_000, checkpoint_every=10_000)
    wait_for(lambda: reached(job, 12))
    with (shop.var / "runs" / job.uid / "1" / "events.jsonl").open() as witness:
        try:
            frozen.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: reap_and(job, "queued"), seconds=30)
            # Claimed by hand: nobody reads what the engine tells, and with its pipe full, which takes less long than
            # a worker takes to start on a busy machine, it would wait for its own.
            lease = claim_next(make_worker("next"))
            assert lease is not None
            assert lease.job_id == job.pk
            began = time.time()
            wait_for(lambda: steps_told(witness)[-1][0] > began + 1, seconds=30)
        finally:
            frozen.kill()


def test_a_frozen_worker_loses_its_job_and_its_engine(studio: Studio, shop: Shop) -> None:
    job = studio.job(steps=400)
    process = shop.worker()
    wait_for(lambda: reached(job, 12))
    engine = process.engine()
    process.process.send_signal(signal.SIGSTOP)
    # The engine's own switch: nothing else can tell it, its supervisor is frozen.
    wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, seconds=10)
    wait_for(lambda: reap_and(job, "queued"), seconds=10)
    control.cancel_job(actor=studio.actor, job=job)
    before = events(job)
    process.process.send_signal(signal.SIGCONT)
    wait_for(lambda: not (shop.var / "runs" / job.uid).exists(), seconds=15)
    assert events(job) == before
    assert fresh(job).state == "canceled"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_draining_worker_saves_and_gives_the_job_back(
    studio: Studio, shop: Shop, number: signal.Signals
) -> None:
    process = shop.worker()
    quiet = studio.job(steps=60)
    wait_for(lambda: is_state(quiet, "succeeded"))
    job = studio.job(steps=60, like=quiet)
    wait_for(lambda: reached(job, 13))
    assert process.drain(number=number) == 0
    row = fresh(job)
    assert (row.state, row.crashes) == ("queued", 0)
    newest = Checkpoint.objects.for_team(job.team).filter(job=job).order_by("-step").first()
    assert newest is not None
    assert newest.step == row.step
    shop.worker()
    wait_for(lambda: is_state(job, "succeeded", "failed"))
    assert_whole(job, 60)
    assert [outcome for _, outcome in attempts(job)] == ["drained", "succeeded"]
    assert weights(job) == weights(quiet)


def test_a_worker_in_a_hurry_ends_an_engine_that_does_not_answer(studio: Studio, shop: Shop) -> None:
    shop.close()
    job = studio.job(steps=400)
    process = WorkerProcess(shop.var, "--drain-seconds", "1")
    wait_for(lambda: reached(job, 12))
    process.engine().send_signal(signal.SIGSTOP)
    assert process.drain() == 0
    row = fresh(job)
    assert (row.state, row.crashes) == ("queued", 0)
    assert attempts(job) == [(1, "drained")]


def test_a_running_job_is_paused_resumed_and_canceled(studio: Studio, shop: Shop) -> None:
    job = studio.job(steps=400)
    shop.worker()
    wait_for(lambda: reached(job, 5))
    control.pause_job(actor=studio.actor, job=job)
    wait_for(lambda: is_state(job, "paused"), seconds=15)
    rested = fresh(job).step
    control.resume_job(actor=studio.actor, job=job)
    wait_for(lambda: reached(job, rested + 3))
    control.cancel_job(actor=studio.actor, job=job)
    wait_for(lambda: is_state(job, "canceled"), seconds=15)
    assert statuses(job) == [
        *["queued", "starting", "running", "running", "stopping", "paused"],
        *["queued", "starting", "running", "running", "stopping", "canceled"],
    ]
    assert [outcome for _, outcome in attempts(job)] == ["paused", "canceled"]
    assert not LoraVersion.objects.for_team(job.team).exists()
    assert not OutboxMessage.objects.exists()


def test_a_stopped_job_keeps_what_it_learned(studio: Studio, shop: Shop) -> None:
    job = studio.job(steps=400)
    shop.worker()
    wait_for(lambda: reached(job, 5))
    control.stop_job(actor=studio.actor, job=job)
    wait_for(lambda: is_state(job, "stopped", "failed"), seconds=20)
    row = fresh(job)
    assert row.state == "stopped"
    assert 5 <= row.step < 400
    assert LoraVersion.objects.for_team(job.team).get(training_uid=job.uid).steps == row.step
    assert len(weights(job)) > 0


def test_a_users_mistake_fails_at_once_with_cause_and_fix(studio: Studio, shop: Shop) -> None:
    studio.base.path = "nowhere"
    studio.base.save()
    job = studio.job()
    shop.worker()
    wait_for(lambda: is_state(job, "failed"))
    row = fresh(job)
    assert (row.error_code, row.error_category, row.crashes) == ("base_model_missing", "user", 0)
    assert row.error_hint
    errors = [data for _, kind, data in events(job) if kind == "error"]
    assert [error["code"] for error in errors] == ["base_model_missing"]
    assert attempts(job) == [(1, "failed")]
    assert list(OutboxMessage.objects.values_list("actor", flat=True)) == ["mail_outcome"]


def test_two_jobs_wait_for_one_another_on_one_worker(studio: Studio, shop: Shop) -> None:
    jobs = [studio.job(), studio.job()]
    shop.worker()
    wait_for(lambda: all(is_state(job, "succeeded") for job in jobs))
    first, second = (Attempt.objects.for_team(job.team).get(job=job) for job in jobs)
    assert first.ended_at is not None
    assert second.started_at >= first.ended_at
    numbers = LoraVersion.objects.for_team(jobs[0].team).order_by("number").values_list("number", flat=True)
    assert list(numbers) == [1, 2]


def test_the_engine_gets_the_pictures_under_their_own_names(studio: Studio, shop: Shop) -> None:
    job = studio.job(steps=400)
    shop.worker()
    wait_for(lambda: reached(job, 1))
    folder = shop.var / "runs" / job.uid / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    names = [Path(item["path"]).name for item in manifest["items"]]
    assert names[:2] == ["我的 picture_0.png", "我的 picture_1.png"]
    assert all((folder / item["path"]).is_file() for item in manifest["items"])
    control.cancel_job(actor=studio.actor, job=job)
    wait_for(lambda: is_state(job, "canceled"), seconds=15)
    verbs = AuditEvent.objects.for_team(job.team).values_list("verb", flat=True)
    assert sorted(set(verbs)) == ["training.cancel", "training.created"]
    assert Sample.objects.for_team(job.team).filter(job=job, step=0).count() == 1


def test_a_preempted_job_makes_room_and_ends_with_the_same_weights(studio: Studio, shop: Shop) -> None:
    """A job of a larger plan starts within seconds; the one that made room loses nothing."""
    QueueSettings.objects.create(pk=1, preempt_after=0, preempt_if_free_within=0, least_run=0, least_left=0)
    shop.worker()
    quiet = studio.job(steps=60)
    wait_for(lambda: is_state(quiet, "succeeded"))
    BillingAccount.objects.create(team=studio.actor.team, plan=Plan.objects.get(key="free"))
    hit = studio.job(steps=200, like=quiet)
    wait_for(lambda: reached(hit, 25))
    other = make_member(TeamFactory(name="Paying"), Role.OWNER)
    BillingAccount.objects.create(team=other.team, plan=Plan.objects.get(key="enterprise"))
    urgent = Studio(other, base=studio.base).job(steps=20)
    asked = time.monotonic()
    wait_for(lambda: make_room() == 1, seconds=15)
    wait_for(lambda: fresh(urgent).state not in ("queued",), seconds=15)
    assert time.monotonic() - asked < 15
    wait_for(lambda: is_state(urgent, "succeeded", "failed"))
    wait_for(lambda: is_state(hit, "succeeded", "failed"))
    assert [outcome for _, outcome in attempts(hit)] == ["preempted", "succeeded"]
    first, second = Attempt.objects.for_team(hit.team).filter(job=hit).order_by("fence")
    assert second.first_step == first.last_step >= 25  # nothing was done twice
    assert_whole(hit, 200)
    alone = studio.job(steps=200, like=hit)
    wait_for(lambda: is_state(alone, "succeeded", "failed"))
    assert weights(hit) == weights(alone)


def test_a_worker_for_once_works_off_what_waits_and_goes(studio: Studio, shop: Shop) -> None:
    shop.close()
    jobs = [studio.job(steps=20), studio.job(steps=20)]
    process = WorkerProcess(shop.var, "--once", "1")
    assert process.process.wait(120) == 0
    assert [fresh(job).state for job in jobs] == ["succeeded", "succeeded"]
    # The worker that the shop killed left a row of its own.
    assert Worker.objects.latest("pk").state == "lost"
