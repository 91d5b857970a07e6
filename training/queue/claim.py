"""Take the best waiting job: exactly one worker gets it, in exact order, within each team's limit."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from training.models import Attempt, TrainingJob, Worker
from training.queue.lease import Lease
from training.queue.policy import Rules
from training.queue.rules import rules
from training.queue.standing import JOBS, STANDING, WAITING_LINES, parameters, standing_of
from training.queue.usage import charge
from training.queue.workers import classes_of, has_gpus
from training.services.lifecycle import move
from training.services.metering import seconds_left
from training.states import JobState

# "LF" and "claim" as bytes, cut to 63 bits. One lock for the one pool of workers.
CLAIM_LOCK = 0x4C46_636C_6169_6D

# `policy.score` in SQL, over the head of each of a team's lines for each class that fits: a hundred thousand waiting
# jobs cost no more than their teams.
_BEST = f"""
    WITH RECURSIVE {WAITING_LINES}, {STANDING}, line AS (
        SELECT standing.*, is_short,
            CASE WHEN is_short THEN short_running ELSE running END AS at_once,
            CASE WHEN is_short THEN %(short_boost)s ELSE 0 END AS head_start
        FROM waiting_line JOIN standing USING (team_id)
    )
    SELECT head.id
    FROM line
    CROSS JOIN unnest(%(classes)s::int[], %(misfits)s::float8[]) AS class(gb, misfit)
    CROSS JOIN LATERAL (
        SELECT id, line_at FROM {JOBS}
        WHERE state = 'queued' AND NOT is_test AND team_id = line.team_id AND is_short = line.is_short
            AND gpu_gb = class.gb
            AND (run_after IS NULL OR run_after <= clock_timestamp())
        ORDER BY line_at, id LIMIT 1
    ) head
    WHERE line.at_once < line.most
    ORDER BY
        extract(epoch FROM head.line_at) - line.boost - line.head_start
            + least(%(longest_for_use)s, %(per_gpu_hour)s * line.used / 3600 / line.weight)
            + %(per_running_job)s * line.at_once / line.weight
            + class.misfit,
        head.id
    LIMIT 1
"""  # noqa: S608


def claim_next(worker: Worker) -> Lease | None:
    """Give the best eligible job to `worker` and return its lease, or None if nothing may start now.

    The lock makes the claims one after another, so that order and limits are exact. It has its own statement: in
    READ COMMITTED the next one then sees everything committed before the lock was got.
    """
    with transaction.atomic():
        take_turn()
        job = _reserved(worker) or _lock_best(worker)
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
    job.place = job.expected_start = job.latest_start = None
    job.waits_for = ""
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
            "place",
            "expected_start",
            "latest_start",
            "waits_for",
        ],
    )
    expected = 0.0 if job.is_test else seconds_left(job)
    Attempt.objects.create(
        team=job.team, job=job, fence=job.fence, worker=worker, started_at=now, charged_seconds=expected
    )
    if expected:
        charge(job.team, expected)
    return Lease(job_id=job.pk, job_uid=job.uid, team=job.team, fence=job.fence)


def take_turn() -> None:
    """Wait, five seconds at most, for the one lock under which jobs are given out; it is held until the commit."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CLAIM_LOCK])


def _lock_best(worker: Worker) -> TrainingJob | None:
    """Lock the best job's row. Somebody may cancel it between the choice and the lock: then choose again."""
    values = rules()
    classes = classes_of(worker, gpus=bool(worker.memory_mb) or has_gpus())
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_BEST, _parameters(values, worker, classes))
            row = cursor.fetchone()
        if row is None:
            return None
        locked = _lock(row[0])
        if locked is not None:
            return locked


def _parameters(values: Rules, worker: Worker, classes: list[int]) -> dict[str, Any]:
    return {
        **parameters(values),
        "classes": classes,
        "misfits": [values.misfit if gb < worker.gpu_gb else 0.0 for gb in classes],
        "longest_for_use": values.longest_for_use,
        "per_gpu_hour": values.per_gpu_hour,
        "per_running_job": values.per_running_job,
        "short_boost": values.short_boost,
    }


def _reserved(worker: Worker) -> TrainingJob | None:
    """Return the job that this slot was made free for, locked; None if there is none or it waits no longer."""
    row = Worker.objects.filter(pk=worker.pk, reserved_for__isnull=False).first()
    if row is None or row.reserved_for_id is None:
        return None
    Worker.objects.filter(pk=worker.pk).update(reserved_for=None, reserved_until=None)
    now = timezone.now()
    job = _lock(row.reserved_for_id)
    if job is None or row.reserved_until is None or row.reserved_until < now or (job.run_after or now) > now:
        return None
    # Its team may have begun as many as it may elsewhere, since the slot was reserved.
    standing = standing_of(job.team, rules())
    return None if standing.is_full(job.is_short) else job


def _lock(job_id: int) -> TrainingJob | None:
    job: TrainingJob | None = (
        TrainingJob.unscoped.select_related("team")
        .select_for_update(no_key=True, of=("self",))
        .filter(pk=job_id, state=JobState.QUEUED)
        .first()
    )
    return job
