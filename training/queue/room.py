"""Make room for waiting jobs of plans that may preempt: see `training.queue.preemption` for who has to go."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, F, Max, Q
from django.utils import timezone

from core.periodic import every
from training.models import Attempt, TrainingJob, Worker
from training.models.worker import WorkerState
from training.queue.claim import take_turn
from training.queue.forecast import UNKNOWN_SECONDS
from training.queue.policy import Rules, score
from training.queue.preemption import Claimant, Exchange, Running, exchanges
from training.queue.rules import rules
from training.queue.standing import plans_of, standings
from training.queue.workers import classes_of, has_gpus, serving
from training.services.control import wish_room
from training.states import JobState

log = logging.getLogger(__name__)

# Of each team that may preempt so many of its oldest jobs are looked at.
_LOOKED_AT = 10


@every(10)
def make_room() -> int:
    """Ask running jobs of smaller plans to make room where larger plans wait too long; return how many were asked."""
    values = rules()
    claimants = _claimants(values)
    if not any(claimant.waited > values.preempt_after for claimant in claimants):
        return 0
    gpus = has_gpus()
    found = exchanges(values, claimants, _running(values, gpus), free_soon=_free_soon(values, gpus))
    return sum(_carry_out(each, values) for each in found)


def _claimants(values: Rules) -> list[Claimant]:
    """Return the waiting jobs whose plan may preempt, as far as their teams' limits go (three queries).

    Without those that a slot is made free for already.
    """
    now = timezone.now()
    promised = dict(
        Worker.objects.filter(reserved_until__gt=now, reserved_for__state=JobState.QUEUED).values_list(
            "reserved_for", "reserved_for__team"
        )
    )
    stand = {
        team: (standing, rank)
        for team, (standing, rank, may_preempt) in standings(values).items()
        if may_preempt and standing.running < standing.limit
    }
    rows = TrainingJob.unscoped.filter(state=JobState.QUEUED, is_test=False, team_id__in=stand)
    rows = rows.filter(Q(run_after=None) | Q(run_after__lte=now)).order_by("queued_at", "id")
    counts: dict[int, int] = dict(Counter(promised.values()))
    found = []
    for job_id, team, queued_at, gpu_gb in rows.values_list("id", "team_id", "queued_at", "gpu_gb"):
        standing, rank = stand[team]
        if job_id in promised:
            continue
        counts[team] = counts.get(team, 0) + 1
        if counts[team] <= min(_LOOKED_AT, standing.limit - standing.running):
            found.append(
                Claimant(
                    id=job_id,
                    rank=rank,
                    score=score(values, standing, queued_at=queued_at.timestamp()),
                    waited=(now - queued_at).total_seconds(),
                    gpu_gb=gpu_gb,
                )
            )
    return found


def _running(values: Rules, gpus: bool) -> list[Running]:
    """Return the jobs that run, are wanted otherwise by nobody, and whose slot is not reserved (two queries)."""
    now = timezone.now()
    attempts = Attempt.unscoped.filter(
        ended_at=None, fence=F("job__fence"), job__state=JobState.RUNNING, job__desired="", job__is_test=False
    ).exclude(worker=None)
    attempts = (
        attempts.filter(worker__in=serving())
        .exclude(worker__reserved_until__gt=now)
        .annotate(
            saved_at=Max("job__checkpoints__created_at"),
            preemptions=Count(
                "job__attempts",
                filter=Q(
                    job__attempts__outcome="preempted", job__attempts__ended_at__gt=now - timedelta(days=1)
                ),
                distinct=True,
            ),
        )
    )
    rows = list(attempts.select_related("job", "worker"))
    plans = plans_of({row.team_id for row in rows}, values)
    return [
        Running(
            id=row.job_id,
            slot=row.worker_id or 0,
            slot_gb=classes_of(row.worker, gpus=gpus)[-1] if row.worker else 0,
            rank=plans[row.team_id].rank,
            is_preemptible=plans[row.team_id].is_preemptible,
            ran=(now - row.started_at).total_seconds(),
            left=UNKNOWN_SECONDS if row.job.eta_seconds is None else row.job.eta_seconds,
            since_checkpoint=(now - (row.saved_at or row.started_at)).total_seconds(),
            used=plans[row.team_id].used_by_weight,
            preempted_today=row.preemptions,
        )
        for row in rows
    ]


def _free_soon(values: Rules, gpus: bool) -> list[int]:
    """Return the classes of slots that nobody is promised and that are free, or whose job ends soon (two queries)."""
    seen = serving().filter(reserved_for=None)
    idle = seen.filter(state=WorkerState.IDLE)
    ending = seen.filter(jobs__state__in=[JobState.RUNNING, JobState.STOPPING, JobState.FINALIZING]).filter(
        Q(jobs__eta_seconds__lte=values.preempt_if_free_within) | ~Q(jobs__state=JobState.RUNNING)
    )
    return [classes_of(worker, gpus=gpus)[-1] for worker in [*idle, *ending.distinct()]]


def _carry_out(exchange: Exchange, values: Rules) -> bool:
    """Tell the victim and reserve its slot, if both are still as they were seen."""
    with transaction.atomic():
        take_turn()  # nobody claims meanwhile
        waits = TrainingJob.unscoped.filter(pk=exchange.winner, state=JobState.QUEUED).exists()
        rows = TrainingJob.unscoped.select_related("team").select_for_update(no_key=True, of=("self",))
        victim = rows.filter(pk=exchange.victim, state=JobState.RUNNING, desired="").first()
        if not waits or victim is None:
            return False
        wish_room(victim)
        Worker.objects.filter(pk=exchange.slot).update(
            reserved_for=exchange.winner,
            reserved_until=timezone.now() + timedelta(seconds=values.reserved_for),
        )
    log.info("job %s makes room for job %s", exchange.victim, exchange.winner)
    return True
