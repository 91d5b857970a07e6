"""What each waiting job waits for and when it will start: foreseen by the clock for the whole queue, read by pages.

No request computes a place in the queue. A job that is queued between two looks, or that is not queued yet, is placed
into the last look by its score.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from accounts.models import Team
from core.periodic import every
from training.models import Attempt, QueueLook, TrainingJob
from training.models.worker import WorkerState
from training.queue.board import Waiting
from training.queue.forecast import UNKNOWN_SECONDS, Slot, Start, forecast
from training.queue.policy import Standing, score
from training.queue.rules import rules
from training.queue.standing import JOBS, standing_of, standings
from training.queue.workers import classes_of, has_gpus, serving
from training.states import LIVE, JobState, WaitsFor

LOOKS_EVERY = 10.0
# So many jobs, those that wait longest, are foreseen; the others are placed by the last look when they are asked for.
MOST_FORESEEN = 20_000
WRITTEN_AT_ONCE = 250
# Of the whole line this many points are kept, to place jobs that are not in it.
POINTS_KEPT = 200
# Until enough runs have ended to know better: nine of ten end within so many times their estimate.
USUAL_SPREAD = 1.5
_RUNS_LOOKED_AT = 200
_RUNS_NEEDED = 20

_WRITE = f"""
    UPDATE {JOBS} job SET place = new.place, expected_start = new.expected, latest_start = new.latest,
        waits_for = new.waits_for
    FROM unnest(%(ids)s::bigint[], %(places)s::int[], %(expected)s::timestamptz[], %(latest)s::timestamptz[],
        %(reasons)s::text[]) AS new(id, place, expected, latest, waits_for)
    WHERE job.id = new.id AND job.state = 'queued'
        AND (job.place, job.waits_for) IS DISTINCT FROM (new.place, new.waits_for)
        OR job.id = new.id AND job.state = 'queued'
        AND abs(extract(epoch FROM coalesce(job.expected_start, 'epoch') - coalesce(new.expected, 'epoch'))) > 5
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Outlook:
    """Hold the place in the queue (1 is next), the jobs under way, the workers, and when it starts, seconds from now.

    `wait_seconds` is as likely too long as too short; nine of ten start within `latest_seconds`. None: not known.
    """

    place: int
    running: int
    workers: int
    wait_seconds: int | None
    latest_seconds: int | None
    reason: WaitsFor
    gpu_gb: int = 0


def outlook_of(job: TrainingJob) -> Outlook:
    """Return the outlook of a waiting job (two queries; a few more before the clock has looked)."""
    if job.place is None:
        return outlook_of_new(
            job.team, gpu_gb=job.gpu_gb, is_short=job.is_short, line_at=job.line_at, gpus=job.gpus
        )
    now = timezone.now()

    def seconds(moment: datetime | None) -> int | None:
        return None if moment is None else max(0, round((moment - now).total_seconds()))

    return Outlook(
        place=job.place,
        running=_running_count(),
        workers=serving().count(),
        wait_seconds=seconds(job.expected_start),
        latest_seconds=seconds(job.latest_start),
        reason=WaitsFor(job.waits_for or WaitsFor.TURN),
        gpu_gb=job.gpu_gb,
    )


def outlook_of_new(
    team: Team,
    *,
    gpu_gb: int = 0,
    is_short: bool = False,
    line_at: datetime | None = None,
    gpus: int = 1,
) -> Outlook:
    """Return the outlook of a job of `team` that would be queued now, or was after the last look (nine queries)."""
    values = rules()
    standing = standing_of(team, values)
    with_gpus = has_gpus()
    workers = list(serving())
    fitting = [worker for worker in workers if gpu_gb in classes_of(worker, gpus=with_gpus)]
    if gpus > 1:  # whole machines
        sizes = Counter(worker.node for worker in fitting if worker.node)
        fitting = [worker for worker in fitting if sizes[worker.node] >= gpus]
    running = _running_count()
    line = _last_look()
    moment = (line_at or timezone.now()).timestamp()
    mine = score(values, standing, queued_at=moment, is_short=is_short)
    before = bisect.bisect_left(line.scores, mine)
    place = line.places[before - 1] + 1 if before else 1
    idle_on = Counter(w.node for w in fitting if w.state == WorkerState.IDLE and w.lent_to_id is None)
    idle = sum(count // gpus for count in idle_on.values())
    reason = WaitsFor.TURN
    if not workers:
        reason = WaitsFor.WORKER
    elif not fitting:
        reason = WaitsFor.GPU if gpus == 1 else WaitsFor.WORKER
    elif standing.is_full(is_short):
        reason = WaitsFor.LIMIT
    elif idle >= place:
        reason = WaitsFor.NOTHING
    wait: float | None = 0.0
    if reason in (WaitsFor.WORKER, WaitsFor.GPU):
        wait = None
    elif reason != WaitsFor.NOTHING:
        # As long as whoever stands there now, or until the first running job ends.
        wait = line.waits[before] if before < len(line.waits) else line.last_wait
        wait = max(wait, _first_end())
    return Outlook(
        place=place,
        running=running,
        workers=len(workers),
        wait_seconds=None if wait is None else round(wait),
        latest_seconds=None if wait is None else round(wait * line.spread),
        reason=reason,
        gpu_gb=gpu_gb,
    )


@every(LOOKS_EVERY)
def look_ahead() -> int:
    """Foresee the start of every waiting job, note what changed, and return how many wait."""
    values, now = rules(), timezone.now()
    rows = list(
        TrainingJob.unscoped.filter(state=JobState.QUEUED, is_test=False)
        .order_by("line_at", "id")
        .values_list(
            "id",
            "team_id",
            "line_at",
            "estimated_seconds",
            "step",
            "total_steps",
            "gpu_gb",
            "run_after",
            "is_short",
            "gpus",
        )[:MOST_FORESEEN]
    )
    if not rows:
        QueueLook.objects.update_or_create(pk=1, defaults=_EMPTY)
        return 0
    waiting = [
        Waiting(
            id=job_id,
            team=team,
            queued_at=queued.timestamp(),
            seconds=max(1.0, estimate * (1 - step / total) if total else estimate),
            gpu_gb=gpu_gb,
            not_before=later.timestamp() if later and later > now else 0.0,
            is_short=short,
            gpus=gpus,
        )
        for job_id, team, queued, estimate, step, total, gpu_gb, later, short, gpus in rows
    ]
    stand = {team: standing for team, (standing, _rank, _may) in standings(values).items()}
    starts = forecast(values, stand, waiting, _slots(), now=now.timestamp())
    spread = _spread()
    _note(starts, now, spread)
    by_id = {job.id: job for job in waiting}
    line = sorted(
        (
            (
                score(
                    values,
                    stand.get(by_id[s.id].team, Standing()),
                    queued_at=by_id[s.id].queued_at,
                    is_short=by_id[s.id].is_short,
                ),
                s.id,
                s.wait,
            )
            for s in starts
        ),
        key=lambda each: each[:2],
    )
    points = list(enumerate(line, 1))[:: max(1, math.ceil(len(line) / POINTS_KEPT))]
    QueueLook.objects.update_or_create(
        pk=1,
        defaults={
            "spread": spread,
            "last_wait": max((start.wait or 0.0 for start in starts), default=0.0),
            "scores": [of for _place, (of, _id, _wait) in points],
            "places": [place for place, _each in points],
            "waits": [wait or 0.0 for _place, (_of, _id, wait) in points],
        },
    )
    return len(rows)


_EMPTY = {"last_wait": 0.0, "scores": [], "places": [], "waits": []}


def _note(starts: Sequence[Start], now: datetime, spread: float) -> None:
    """Write the starts to their jobs, those that changed."""

    def moment(wait: float | None, factor: float) -> datetime | None:
        return None if wait is None else now + timedelta(seconds=wait * factor)

    # A few at a time, each with a commit of its own: a claim must not wait for the whole queue to be written.
    for first in range(0, len(starts), WRITTEN_AT_ONCE):
        some = starts[first : first + WRITTEN_AT_ONCE]
        with connection.cursor() as cursor:
            cursor.execute(
                _WRITE,
                {
                    "ids": [start.id for start in some],
                    "places": [start.place for start in some],
                    "expected": [moment(start.wait, 1.0) for start in some],
                    "latest": [moment(start.wait, spread) for start in some],
                    "reasons": [start.waits_for.value for start in some],
                },
            )


def _slots() -> list[Slot]:
    """Return the slots that take jobs, with what they are busy with (three queries)."""
    rows = TrainingJob.unscoped.filter(state__in=sorted(LIVE), is_test=False).exclude(worker=None)
    live = {job.worker_id: job for job in rows}
    lent = {job.pk: job for job in rows if job.gpus > 1}
    slots, gpus = [], has_gpus()
    for worker in serving():
        classes = classes_of(worker, gpus=gpus)
        job = live.get(worker.pk) or lent.get(worker.lent_to_id)
        busy = 0.0
        if job is not None:
            left = job.estimated_seconds if job.is_short and job.eta_seconds is None else job.eta_seconds
            busy = UNKNOWN_SECONDS if left is None else float(left)
        own = job if job is not None and job.worker_id == worker.pk else None
        slots.append(
            Slot(
                gpu_gb=worker.gpu_gb,
                takes=classes[-1],
                busy_for=busy,
                team=own.team_id if own else None,
                is_short=own.is_short if own else False,
                node=worker.node,
            )
        )
    return slots


def _running_count() -> int:
    return TrainingJob.unscoped.filter(state__in=sorted(LIVE), is_test=False).count()


def _first_end() -> float:
    """Return in how many seconds the first of the running jobs is expected to end."""
    live = TrainingJob.unscoped.filter(state__in=sorted(LIVE), is_test=False)
    seconds = [
        UNKNOWN_SECONDS if left is None else float(left)
        for left in live.values_list("eta_seconds", flat=True)
    ]
    return min(seconds, default=0.0)


def _last_look() -> QueueLook:
    return QueueLook.objects.first() or QueueLook(
        last_wait=0.0, scores=[], places=[], waits=[], spread=USUAL_SPREAD
    )


def _spread() -> float:
    """Return within how many times their estimate nine of ten of the last runs ended."""
    ended = Attempt.unscoped.filter(outcome="succeeded", charged_seconds__gt=0, ended_at__isnull=False)
    rows = ended.order_by("-ended_at").values_list("started_at", "ended_at", "charged_seconds", "job__gpus")
    ratios = sorted(
        (end - start).total_seconds() * gpus / charged for start, end, charged, gpus in rows[:_RUNS_LOOKED_AT]
    )
    if len(ratios) < _RUNS_NEEDED:
        return USUAL_SPREAD
    return max(1.0, ratios[math.ceil(0.9 * len(ratios)) - 1])
