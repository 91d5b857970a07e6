"""How teams stand in the queue, and the SQL in which the claim reads it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from accounts.models import Team
from billing.entitlements import plan_of
from billing.models import BillingAccount, Plan
from billing.plans import default_plan
from training.models import TeamUsage, TrainingJob
from training.queue.policy import NO_LIMIT, Rules, Standing, decayed
from training.queue.usage import used_of_late
from training.states import LIVE

JOBS = TrainingJob._meta.db_table
_ACCOUNTS = BillingAccount._meta.db_table
_PLANS = Plan._meta.db_table
_USAGE = TeamUsage._meta.db_table

# The lines with waiting jobs, one probe of an index each: the cost does not grow with the jobs. A team has two, one of
# trainings and one of short work. Jobs of test keys never wait here.
WAITING_LINES = f"""
    waiting_line(team_id, is_short) AS (
        (
            SELECT team_id, is_short FROM {JOBS}
            WHERE state = 'queued' AND NOT is_test ORDER BY team_id, is_short LIMIT 1
        )
        UNION ALL
        SELECT next.team_id, next.is_short
        FROM waiting_line
        CROSS JOIN LATERAL (
            SELECT team_id, is_short FROM {JOBS}
            WHERE state = 'queued' AND NOT is_test
                AND (team_id, is_short) > (waiting_line.team_id, waiting_line.is_short)
            ORDER BY team_id, is_short LIMIT 1
        ) next
    )
"""  # noqa: S608

# How each of them stands; `used` are GPU seconds of late, halved with each half-life.
STANDING = f"""
    standing AS (
        SELECT waiting_team.team_id, plan.boost_seconds AS boost, plan.weight, plan.position AS rank, plan.may_preempt,
            coalesce(plan.running_trainings, %(limit)s) AS most, coalesce(running.jobs, 0) AS running,
            coalesce(running.short_jobs, 0) AS short_running,
            coalesce(
                usage.seconds * power(
                    0.5::float8, greatest(0, extract(epoch FROM clock_timestamp() - usage.as_of)) / %(half_life)s
                ), 0
            ) AS used
        FROM (SELECT DISTINCT team_id FROM waiting_line) waiting_team
        LEFT JOIN (
            SELECT team_id, count(*) FILTER (WHERE NOT is_short) AS jobs, count(*) FILTER (WHERE is_short) AS short_jobs
            FROM {JOBS}
            WHERE state = ANY(%(live)s) AND NOT is_test GROUP BY team_id
        ) running USING (team_id)
        LEFT JOIN {_ACCOUNTS} account USING (team_id)
        LEFT JOIN {_USAGE} usage USING (team_id)
        JOIN {_PLANS} plan ON plan.id = coalesce(account.plan_id, %(default_plan)s)
    )
"""  # noqa: S608


_STANDINGS = f"""
    WITH RECURSIVE {WAITING_LINES}, {STANDING}
    SELECT team_id, boost, weight, most, running, short_running, used, rank, may_preempt FROM standing
"""  # noqa: S608


def parameters(values: Rules) -> dict[str, Any]:
    """Return the parameters of `STANDING`."""
    return {
        # The installation's own limit, where the plan sets none.
        "limit": settings.TEAM_MAX_RUNNING or NO_LIMIT,
        "live": sorted(LIVE),
        "default_plan": default_plan().pk,
        "half_life": values.half_life,
    }


def standings(values: Rules) -> dict[int, tuple[Standing, int, bool]]:
    """Return how each team with waiting jobs stands, its plan's position and whether it may preempt, by id."""
    with connection.cursor() as cursor:
        cursor.execute(
            _STANDINGS,
            parameters(values),
        )
        return {
            team: (Standing(float(boost), weight, most, running, short, float(used)), rank, may_preempt)
            for team, boost, weight, most, running, short, used, rank, may_preempt in cursor.fetchall()
        }


def standing_of(team: Team, values: Rules) -> Standing:
    """Return how `team` stands, whether it has waiting jobs or not (four queries)."""
    plan = plan_of(team)
    live = TrainingJob.jobs.for_team(team).filter(state__in=sorted(LIVE), is_test=False)
    counts = live.aggregate(
        long=Count("id", filter=Q(is_short=False)), short=Count("id", filter=Q(is_short=True))
    )
    most = plan.running_trainings
    return Standing(
        boost=float(plan.boost_seconds),
        weight=plan.weight,
        limit=most if most is not None else settings.TEAM_MAX_RUNNING or NO_LIMIT,
        running=counts["long"],
        short_running=counts["short"],
        used=used_of_late(team, values),
    )


@dataclass(frozen=True, slots=True)
class RunningPlan:
    """Hold what preemption asks of a running job's team: its plan's position, and how much it used for its weight."""

    rank: int
    is_preemptible: bool
    used_by_weight: float


def plans_of(teams: Collection[int], values: Rules) -> dict[int, RunningPlan]:
    """Return the plans of `teams` by their ids (three queries)."""
    now, usual = timezone.now(), default_plan()
    accounts = BillingAccount.unscoped.filter(team_id__in=teams).select_related("plan")
    plans = {account.team_id: account.plan for account in accounts}
    used = {
        row.team_id: decayed(values, row.seconds, max(0.0, (now - row.as_of).total_seconds()))
        for row in TeamUsage.unscoped.filter(team_id__in=teams)
    }
    found = {}
    for team in teams:
        plan = plans.get(team, usual)
        found[team] = RunningPlan(plan.position, plan.is_preemptible, used.get(team, 0.0) / plan.weight)
    return found
