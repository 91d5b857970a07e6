"""What an operator wants to know of the queue: by plan, by reason, by worker, and what failed of late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.db.models import Count
from django.utils import timezone

from billing.models import BillingAccount, Plan
from billing.plans import default_plan
from training.kinds import JobKind
from training.models import TrainingJob, Worker
from training.models.worker import WorkerState
from training.queue.standing import JOBS
from training.states import LIVE, JobState, WaitsFor

OF_LATE = timedelta(days=1)
WORKERS_SHOWN = 200

_BY_PLAN = f"""
    SELECT plan.key, plan.name, job.kind,
        count(*) FILTER (WHERE job.state = 'queued'),
        count(*) FILTER (WHERE job.state = ANY(%(live)s)),
        coalesce(extract(epoch FROM now() - min(job.queued_at) FILTER (WHERE job.state = 'queued')), 0),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM job.started_at - job.queued_at))
            FILTER (WHERE job.started_at > %(since)s AND job.started_at >= job.queued_at),
        percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM job.started_at - job.queued_at))
            FILTER (WHERE job.started_at > %(since)s AND job.started_at >= job.queued_at)
    FROM {JOBS} job
    LEFT JOIN {BillingAccount._meta.db_table} account USING (team_id)
    JOIN {Plan._meta.db_table} plan ON plan.id = coalesce(account.plan_id, %(default_plan)s)
    WHERE NOT job.is_test AND (job.finished_at IS NULL OR job.finished_at > %(since)s)
    GROUP BY plan.id, job.kind ORDER BY plan.position, plan.id, job.kind DESC
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class PlanLine:
    """Hold one plan's jobs of one kind; waits are those of the last day's starts, in seconds, None without any."""

    key: str
    name: str
    kind: JobKind
    waiting: int
    running: int
    oldest: float
    wait_p50: float | None
    wait_p90: float | None


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """Hold the queue as an operator looks at it: `workers` without the lost, `failures` of the last day by code."""

    plans: list[PlanLine]
    reasons: dict[WaitsFor, int]
    workers: list[Worker]
    failures: list[tuple[str, int]]
    worker_states: dict[str, int]


def queue_overview() -> QueueOverview:
    """Return the queue of all teams (six queries)."""
    since = timezone.now() - OF_LATE
    with connection.cursor() as cursor:
        cursor.execute(_BY_PLAN, {"live": sorted(LIVE), "since": since, "default_plan": default_plan().pk})
        plans = [
            PlanLine(key, name, JobKind(kind), waiting, running, float(oldest), p50, p90)
            for key, name, kind, waiting, running, oldest, p50, p90 in cursor.fetchall()
        ]
    waiting = TrainingJob.unscoped.filter(state=JobState.QUEUED, is_test=False)
    counted = waiting.values_list("waits_for").annotate(n=Count("id")).order_by()
    failed = TrainingJob.unscoped.filter(state=JobState.FAILED, finished_at__gt=since, is_test=False)
    by_code = failed.values_list("error_code").annotate(n=Count("id")).order_by("-n", "error_code")
    return QueueOverview(
        plans=plans,
        reasons={WaitsFor(reason): count for reason, count in counted if reason},
        workers=list(Worker.objects.exclude(state=WorkerState.LOST).order_by("name", "pk")[:WORKERS_SHOWN]),
        failures=list(by_code),
        worker_states=dict(Worker.objects.values_list("state").annotate(n=Count("id")).order_by("state")),
    )
