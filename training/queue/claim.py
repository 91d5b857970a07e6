"""Take the best waiting job: exactly one worker gets it, in exact order, within each team's limit."""

from __future__ import annotations

from django.db import connection, transaction
from django.utils import timezone

from training.models import Attempt, TrainingJob, Worker
from training.queue.lease import Lease
from training.queue.policy import WAITING, parameters
from training.services.lifecycle import move
from training.states import JobState

# "LF" and "claim" as bytes, cut to 63 bits. One lock for the one pool of workers.
CLAIM_LOCK = 0x4C46_636C_6169_6D
_BEST = f"""
    SELECT id FROM ({WAITING}) waiting
    WHERE may_run AND (run_after IS NULL OR run_after <= clock_timestamp())
    ORDER BY score, id LIMIT 1
"""  # noqa: S608


def claim_next(worker: Worker) -> Lease | None:
    """Give the best eligible job to `worker` and return its lease, or None if nothing may start now.

    The lock makes the claims one after another, so that order and limits are exact. It has its own statement: in
    READ COMMITTED the next one then sees everything committed before the lock was got.
    """
    with transaction.atomic():
        _take_turn()
        job = _lock_best()
        if job is None:
            return None
        return _begin(job, worker)


def claim_simulated(uid: str) -> Lease | None:
    """Begin an attempt at a test key's job without a worker; None if it does not wait (any more)."""
    with transaction.atomic():
        job: TrainingJob | None = (
            TrainingJob.unscoped.select_related("team")
            .select_for_update(no_key=True, of=("self",))
            .filter(uid=uid, state=JobState.QUEUED, is_test=True)
            .first()
        )
        return _begin(job, None) if job is not None else None


def _begin(job: TrainingJob, worker: Worker | None) -> Lease:
    now = timezone.now()
    job.fence += 1
    job.worker = worker
    job.run_after = None
    job.phase, job.phase_done, job.phase_total = "", 0, 0
    job.steps_per_second = job.eta_seconds = None
    job.started_at = job.started_at or now
    move(
        job,
        JobState.STARTING,
        save=[
            "fence",
            "worker",
            "run_after",
            "phase",
            "phase_done",
            "phase_total",
            "steps_per_second",
            "eta_seconds",
            "started_at",
        ],
    )
    Attempt.objects.create(team=job.team, job=job, fence=job.fence, worker=worker, started_at=now)
    return Lease(job_id=job.pk, job_uid=job.uid, team=job.team, fence=job.fence)


def _take_turn() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CLAIM_LOCK])


def _lock_best() -> TrainingJob | None:
    """Lock the best job's row. Somebody may cancel it between the choice and the lock: then choose again."""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_BEST, parameters())
            row = cursor.fetchone()
        if row is None:
            return None
        locked: TrainingJob | None = (
            TrainingJob.unscoped.select_related("team")
            .select_for_update(no_key=True, of=("self",))
            .filter(pk=row[0], state=JobState.QUEUED)
            .first()
        )
        if locked is not None:
            return locked
