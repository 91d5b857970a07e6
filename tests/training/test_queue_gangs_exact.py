"""Claims of jobs on several GPUs against the pure policy, and by many workers at once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.roles import Role
from billing.models import BillingAccount, Plan
from tests.factories import TeamFactory, make_member
from tests.scenario import make_scenario
from tests.training.queueing import Bench, end_now, make_machine
from training.models import TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.gang import room_beside
from training.queue.lease import Lease
from training.queue.policy import GPU_CLASSES, Held, Room, Rules, is_startable, may_take, score
from training.queue.standing import standing_of
from training.states import JobState

HOLD = Rules().hold_for


def test_every_claim_takes_what_the_policy_says(db: None) -> None:
    """Against the pure policy: teams on all plans, jobs on one to three GPUs, three machines, holds of any age."""
    dice, rules = random.Random(11), Rules()
    plans = list(Plan.objects.filter(key__in=["free", "pro", "team", "enterprise"]))
    teams = []
    for number in range(6):
        team = TeamFactory(name=f"Crowd {number}")
        bench = Bench(make_member(team, Role.OWNER), name=f"Set {number}")
        teams.append(team)
        for _job in range(7):
            held = dice.choice([None, dice.uniform(0, 3 * HOLD)])
            bench.job(
                waited=dice.uniform(0, 30_000),
                gpus=dice.choice([1, 1, 2, 3]),
                gpu_gb=dice.choice([8, 24]),
                held_since=None if held is None else timezone.now() - timedelta(seconds=held),
                held_node="" if held is None else dice.choice(["a", "b"]),
            )
        BillingAccount.objects.create(team=team, plan=plans[number % 4])
    Worker.objects.all().delete()
    workers = [*make_machine("a", 3), *make_machine("b", 2, 8188), *make_machine("b2", 1, 24_564)]
    Worker.objects.filter(name="b2:0").update(node="b", number=2)
    workers[-1].refresh_from_db()

    def by_hand(worker: Worker) -> tuple[int | None, bool]:
        """The best job, and whether it starts."""
        classes = [gb for gb in GPU_CLASSES if gb <= worker.gpu_gb]
        room: Room = room_beside(worker, classes, gpus=True)
        able = []
        for team in teams:
            standing = standing_of(team, rules)
            rows = TrainingJob.jobs.for_team(team).filter(state=JobState.QUEUED, gpu_gb__lte=worker.gpu_gb)
            for job in [] if standing.is_full(False) else rows:
                held = Held(job.held_since.timestamp() if job.held_since else None, job.held_node)
                now = timezone.now().timestamp()
                if may_take(rules, room, held, gpus=job.gpus, gpu_gb=job.gpu_gb, now=now):
                    at = job.line_at.timestamp()
                    able.append(
                        (
                            score(rules, standing, queued_at=at, gpu_gb=job.gpu_gb, slot_gb=worker.gpu_gb),
                            job.pk,
                            is_startable(room, gpus=job.gpus, gpu_gb=job.gpu_gb),
                        )
                    )
        return min(able)[1:] if able else (None, False)

    leases: list[Lease] = []
    seen = {"started": 0, "several": 0, "held": 0}
    for _turn in range(150):
        busy = TrainingJob.unscoped.filter(state="starting").values("worker")
        idle = list(Worker.objects.exclude(pk__in=busy).filter(lent_to=None).order_by("pk"))
        if leases and (not idle or dice.random() < 0.4):
            end_now(leases.pop(dice.randrange(len(leases))))
            continue
        worker = dice.choice(idle)
        job_id, starts = by_hand(worker)
        lease = claim_next(worker)
        assert (lease.job_id if lease else None) == (job_id if starts else None)
        if lease:
            leases.append(lease)
            seen["started"] += 1
            seen["several"] += len(lease.slots) > 1
        elif job_id is not None:
            assert TrainingJob.unscoped.get(pk=job_id).held_since is not None
            seen["held"] += 1
    assert seen["started"] > 25
    assert seen["several"] > 8
    assert seen["held"] > 5


@pytest.mark.django_db(transaction=True)
def test_no_slot_is_given_twice_by_claims_and_ends_at_once(settings: Any) -> None:
    """Eight slots of two machines claim and end for some seconds, jobs on one to four GPUs among them."""
    settings.TEAM_MAX_RUNNING = 100
    dice = random.Random(5)
    bench = Bench(make_scenario().alice)
    Worker.objects.all().delete()
    workers = [*make_machine("one", 4), *make_machine("two", 4)]
    for _job in range(48):
        bench.job(waited=dice.uniform(0, 5000), gpus=dice.choice([1, 1, 2, 3, 4]))
    taken: list[list[int]] = []
    several, wrong = [], []

    def check() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            # An end may commit between the two reads: both must see one snapshot.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            live = list(TrainingJob.unscoped.filter(state="starting").values_list("pk", "worker", "gpus"))
            loans = list(Worker.objects.exclude(lent_to=None).values_list("pk", "lent_to", "node"))
        used = [worker for _job, worker, _gpus in live] + [slot for slot, _job, _node in loans]
        sizes = {job: gpus for job, _worker, gpus in live}
        if len(used) != len(set(used)) or Counter(job for _slot, job, _node in loans) != Counter(
            {job: gpus - 1 for job, gpus in sizes.items() if gpus > 1}
        ):
            wrong.append((live, loans))

    def run(worker: Worker, pause: random.Random) -> None:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                lease = claim_next(worker)
                if lease is None:
                    if not TrainingJob.unscoped.filter(state="queued").exists():
                        return
                    time.sleep(0.01)
                    continue
                taken.append([lease.job_id])
                several.append(len(lease.slots))
                check()
                time.sleep(pause.uniform(0, 0.05))
                end_now(lease)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(w, random.Random(n))) for n, w in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert Counter(Counter(job for (job,) in taken).values()) == {1: 48}
    assert set(several) == {1, 2, 3, 4}
    assert not Worker.objects.exclude(lent_to=None).exists()
