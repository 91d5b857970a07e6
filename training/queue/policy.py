"""In which order waiting jobs start, as SQL for the claim and the outlook alike: one policy, said once.

score = queued at - the plan's head start + 900 s x the team's running jobs / the plan's weight; the lower starts
sooner, and of two that are equal the older. Waiting longer is the only way forward that nobody can take away, so
nobody starves. The values are the plan's at this moment: a changed plan acts on jobs that wait already.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from billing.models import BillingAccount, Plan
from billing.plans import default_plan
from training.models import TrainingJob
from training.states import LIVE

# A team's next job counts as so much younger for each job that it runs already.
SECONDS_PER_RUNNING_JOB = 900
NO_LIMIT = 2**31 - 1

JOBS = TrainingJob._meta.db_table
_ACCOUNTS = BillingAccount._meta.db_table
_PLANS = Plan._meta.db_table

# Every waiting job with its `score` and whether its team `may_run` one more now. Jobs of test keys never wait here.
WAITING = f"""
    SELECT job.id, job.team_id, job.run_after, job.estimated_seconds,
        extract(epoch FROM job.queued_at) - plan.boost_seconds
            + %(per_job)s::float8 * coalesce(running.jobs, 0) / plan.weight AS score,
        coalesce(running.jobs, 0) < coalesce(plan.running_trainings, %(limit)s) AS may_run
    FROM {JOBS} job
    LEFT JOIN (
        SELECT team_id, count(*) AS jobs FROM {JOBS}
        WHERE state = ANY(%(live)s) AND NOT is_test GROUP BY team_id
    ) running USING (team_id)
    LEFT JOIN {_ACCOUNTS} account USING (team_id)
    JOIN {_PLANS} plan ON plan.id = coalesce(account.plan_id, %(default_plan)s)
    WHERE job.state = 'queued' AND NOT job.is_test
"""  # noqa: S608


def score(plan: Plan, *, queued_at: datetime, running: int) -> float:
    """Return the score of a job queued at `queued_at` of a team on `plan` that runs so many: as `WAITING` does."""
    return queued_at.timestamp() - plan.boost_seconds + SECONDS_PER_RUNNING_JOB * running / plan.weight


def parameters() -> dict[str, Any]:
    """Return the parameters of `WAITING`."""
    return {
        "per_job": SECONDS_PER_RUNNING_JOB,
        # The installation's own limit, where the plan sets none.
        "limit": settings.TEAM_MAX_RUNNING or NO_LIMIT,
        "live": sorted(LIVE),
        "default_plan": default_plan().pk,
    }
