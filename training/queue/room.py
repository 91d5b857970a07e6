"""Make room for waiting jobs that may preempt: see `training.queue.preemption` for who has to go."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta

from django.db import transaction
from django.db.models import Case, Count, F, FloatField, Max, Q, Value, When
from django.db.models.functions import Coalesce
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


@every(5)
def make_room() -> int:
    """Ask running trainings to make room for larger plans and short work that wait; return how many were asked."""
    values = rules()
    claimants = _claimants(values)
    patience = {False: values.preempt_after, True: values.short_waits}
    if not any(claimant.waited > patience[claimant.is_short] for claimant in claimants):
        return 0
    gpus = has_gpus()
    found = exchanges(values, claimants, _running(values, gpus), free_soon=_free_soon(values, gpus))
    return sum(_carry_out(each, values) for each in found)


def _claimants(values: Rules) -> list[Claimant]:
    """Return the waiting jobs that may preempt, as far as their teams' limits go (three queries).

    Without those that a slot is made free for already, and those on several GPUs: one slot would not help them.
    """
    now = timezone.now()
    promised = list(
        Worker.objects.filter(reserved_until__gt=now, reserved_for__state=JobState.QUEUED).values_list(
            "reserved_for", "reserved_for__team", "reserved_for__is_short"
        )
    )
    reserved = {job_id for job_id, _team, _short in promised}
    stand = standings(values)
    preempting = [team for team, (_standing, _rank, may_preempt) in stand.items() if may_preempt]
    rows = TrainingJob.unscoped.filter(Q(is_short=True) | Q(team_id__in=preempting))
    rows = rows.filter(state=JobState.QUEUED, is_test=False, team_id__in=stand, gpus=1)
    rows = rows.filter(Q(run_after=None) | Q(run_after__lte=now)).order_by("line_at", "id")
    counts = Counter((team, is_short) for _job, team, is_short in promised)
    found = []
    for job_id, team, queued_at, line_at, gpu_gb, is_short in rows.values_list(
        "id", "team_id", "queued_at", "line_at", "gpu_gb", "is_short"
    ):
        standing, rank, _may_preempt = stand[team]
        if job_id in reserved:
            continue
        counts[team, is_short] += 1
        if counts[team, is_short] <= min(_LOOKED_AT, standing.limit - standing.at_once(is_short)):
            mine = score(values, standing, queued_at=line_at.timestamp(), is_short=is_short)
            found.append(
                Claimant(
                    id=job_id,
                    rank=rank,
                    score=mine,
                    waited=(now - queued_at).total_seconds(),
                    gpu_gb=gpu_gb,
                    team=team,
                    is_short=is_short,
                )
            )
    return found


def _running(values: Rules, gpus: bool) -> list[Running]:
    """Return the trainings that run, are wanted otherwise by nobody, and whose slot is not reserved (two queries)."""
    now = timezone.now()
    attempts = Attempt.unscoped.filter(
        ended_at=None, fence=F("job__fence"), job__state=JobState.RUNNING, job__desired="", job__is_test=False
    ).exclude(worker=None)
    attempts = attempts.filter(job__is_short=False)
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
            team=row.team_id,
        )
        for row in rows
    ]


def _free_soon(values: Rules, gpus: bool) -> list[tuple[int, float]]:
    """Return the class of each slot that nobody is promised, and in how many seconds it is free (two queries).

    Without those that are busy for longer than any rule asks for.
    """
    seen = serving().filter(reserved_for=None, lent_to=None)
    longest = max(values.preempt_if_free_within, values.short_if_free_within)
    busy = [JobState.RUNNING, JobState.STOPPING, JobState.FINALIZING]
    ending = seen.filter(jobs__state__in=busy).annotate(
        ends_in=Case(
            When(~Q(jobs__state=JobState.RUNNING), then=Value(0.0)),
            When(jobs__is_short=True, then=Coalesce("jobs__eta_seconds", Value(0.0))),
            default=F("jobs__eta_seconds"),
            output_field=FloatField(),
        )
    )
    # What a machine holds back for a job on several of its GPUs is free for nobody.
    since = timezone.now() - timedelta(seconds=values.hold_for)
    holding = TrainingJob.unscoped.filter(state=JobState.QUEUED, gpus__gt=1, held_since__gt=since)
    idle = seen.filter(state=WorkerState.IDLE).exclude(node__in=holding.values("held_node"))
    slots = [(worker, 0.0) for worker in idle]
    slots += [(worker, worker.ends_in) for worker in ending.filter(ends_in__lte=longest)]
    return [(classes_of(worker, gpus=gpus)[-1], seconds) for worker, seconds in slots]


def _carry_out(exchange: Exchange, values: Rules) -> bool:
    """Tell the victim and reserve its slot, if both are still as they were seen."""
    with transaction.atomic():
        take_turn()  # nobody claims meanwhile
        waits = TrainingJob.unscoped.filter(pk=exchange.winner, state=JobState.QUEUED).exists()
        rows = TrainingJob.unscoped.select_related("team").select_for_update(no_key=True, of=("self",))
        victim = rows.filter(pk=exchange.victim, state=JobState.RUNNING, desired="").first()
        if not waits or victim is None:
            return False
        wish_room(victim, for_short=exchange.for_short)
        Worker.objects.filter(pk=exchange.slot).update(
            reserved_for=exchange.winner,
            reserved_until=timezone.now() + timedelta(seconds=values.reserved_for),
        )
    log.info("job %s makes room for job %s", exchange.victim, exchange.winner)
    return True
