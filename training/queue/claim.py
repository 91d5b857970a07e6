"""Take the best waiting job: exactly one worker gets it, in exact order, within each team's limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from training.models import Attempt, TrainingJob, Worker
from training.queue.gang import hold_back, lend, room_beside
from training.queue.lease import Lease
from training.queue.policy import NO_LIMIT, Room, Rules, is_startable
from training.queue.rules import rules
from training.queue.standing import JOBS, STANDING, WAITING_LINES, parameters, standing_of
from training.queue.usage import charge
from training.queue.workers import classes_of, has_gpus
from training.services.lifecycle import move
from training.services.metering import seconds_left
from training.states import JobState

# "LF" and "claim" as bytes, cut to 63 bits. One lock for the one pool of workers.
CLAIM_LOCK = 0x4C46_636C_6169_6D

# `policy.score` and `policy.may_take` in SQL, over the head of each of a team's lines for each class that fits: a
# hundred thousand waiting jobs cost no more than their teams.
_BEST = f"""
    WITH RECURSIVE {WAITING_LINES}, {STANDING}, line AS (
        SELECT standing.*, is_short,
            CASE WHEN is_short THEN short_running ELSE running END AS at_once,
            CASE WHEN is_short THEN %(short_boost)s ELSE 0 END AS head_start
        FROM waiting_line JOIN standing USING (team_id)
    )
    SELECT head.id, head.gpus, head.gpu_gb
    FROM line
    CROSS JOIN unnest(%(classes)s::int[], %(misfits)s::float8[], %(free)s::int[], %(slots)s::int[])
        AS class(gb, misfit, free, slots)
    CROSS JOIN LATERAL (
        SELECT id, line_at, gpus, gpu_gb FROM {JOBS}
        WHERE state = 'queued' AND NOT is_test AND team_id = line.team_id AND is_short = line.is_short
            AND gpu_gb = class.gb
            AND (gpus <= class.free OR gpus <= class.slots AND (
                held_since IS NULL OR held_since <= clock_timestamp() - make_interval(secs => 2 * %(hold_for)s)
                OR held_node = %(node)s AND held_since > clock_timestamp() - make_interval(secs => %(hold_for)s)
            ))
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
        row = _promise(worker)
        if row is not None and row.lent_to_id is not None:
            return None
        job = (_reserved(row) if row is not None else None) or _lock_best(worker)
        if job is None:
            return None
        lent = lend(job, worker) if job.gpus > 1 else []
        if lent is None:
            return None
        return _begin(job, worker, lent)


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


def _begin(job: TrainingJob, worker: Worker | None, lent: Sequence[Worker] = ()) -> Lease:
    now = timezone.now()
    job.fence += 1
    job.worker = worker
    job.run_after = None
    job.phase, job.phase_done, job.phase_total = "", 0, 0
    job.steps_per_second = job.eta_seconds = None
    job.place = job.expected_start = job.latest_start = None
    job.waits_for = ""
    job.held_since, job.held_node = None, ""
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
            "held_since",
            "held_node",
        ],
    )
    expected = 0.0 if job.is_test else seconds_left(job) * job.gpus
    Attempt.objects.create(
        team=job.team, job=job, fence=job.fence, worker=worker, started_at=now, charged_seconds=expected
    )
    if expected:
        charge(job.team, expected)
    slots = tuple(each.number for each in (worker, *lent) if each is not None)
    return Lease(job_id=job.pk, job_uid=job.uid, team=job.team, fence=job.fence, slots=slots)


def take_turn() -> None:
    """Wait, five seconds at most, for the one lock under which jobs are given out; it is held until the commit."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CLAIM_LOCK])


def _lock_best(worker: Worker) -> TrainingJob | None:
    """Lock the best job's row. Somebody may cancel it between the choice and the lock: then choose again.

    None also while the best one needs more slots of this machine than are free: this one then waits for it.
    """
    values = rules()
    gpus = bool(worker.memory_mb) or has_gpus()
    classes = classes_of(worker, gpus=gpus)
    # As if there were room for everything: what a job on one GPU wins that way, it wins.
    room: Room | None = None
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_BEST, _parameters(values, worker, classes, room))
            row = cursor.fetchone()
        if row is None:
            return None
        job_id, count, gpu_gb = row
        if count > 1:
            if room is None:
                room = room_beside(worker, classes, gpus=gpus)
                continue
            if not is_startable(room, gpus=count, gpu_gb=gpu_gb):
                hold_back(job_id, worker.node, values.hold_for)
                return None
        locked = _lock(job_id)
        if locked is not None:
            return locked


def _parameters(values: Rules, worker: Worker, classes: list[int], room: Room | None) -> dict[str, Any]:
    return {
        **parameters(values),
        "classes": classes,
        "misfits": [values.misfit if gb < worker.gpu_gb else 0.0 for gb in classes],
        "free": [room.free[gb] if room else NO_LIMIT for gb in classes],
        "slots": [room.slots[gb] if room else NO_LIMIT for gb in classes],
        "node": worker.node,
        "hold_for": values.hold_for,
        "longest_for_use": values.longest_for_use,
        "per_gpu_hour": values.per_gpu_hour,
        "per_running_job": values.per_running_job,
        "short_boost": values.short_boost,
    }


def _promise(worker: Worker) -> Worker | None:
    """Return the row that says that this slot is reserved or lent: lent also if its process was started anew since."""
    mine = Q(pk=worker.pk, reserved_for__isnull=False)
    lent = Q(name=worker.name, node=worker.node, lent_to__isnull=False)
    return Worker.objects.filter(mine | lent).order_by("lent_to_id").first()


def _reserved(row: Worker) -> TrainingJob | None:
    """Return the job that this slot was made free for, locked; None if there is none or it waits no longer."""
    if row.reserved_for_id is None:
        return None
    Worker.objects.filter(pk=row.pk).update(reserved_for=None, reserved_until=None)
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
