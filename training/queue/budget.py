"""Look after the reserves of running jobs: more where there is more, rest where there is none."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from billing.selectors import charged_for
from billing.services.ledger import InsufficientCredits, held_for, is_in_ledger
from core.periodic import every
from training.models import Attempt, TrainingJob
from training.services.metering import extend, let_rest
from training.states import LIVE

# A job is told to rest when its reserve ends within so many seconds: time to reach the next step and save.
WARNING = 30


@every(5)
def rest_spent_jobs() -> int:
    """Give running jobs whose reserve runs out more of it, or tell them to save and rest; return how many rest."""
    now = timezone.now()
    open_attempts = Attempt.unscoped.filter(
        ended_at=None, job__state__in=sorted(LIVE), job__is_test=False, job__desired="", fence=F("job__fence")
    ).select_related("job__team", "job__project", "job__created_by")
    rested = 0
    for attempt in open_attempts:
        spent = (now - attempt.started_at).total_seconds()
        try:
            _look_after(attempt.job, spent)
        except InsufficientCredits as error:
            rested += let_rest(attempt.job, error)
    return rested


def _look_after(job: TrainingJob, spent: float) -> None:
    """Reserve more for a job whose reserve ends; under its row's lock, so that it cannot end meanwhile."""
    with transaction.atomic():
        rows = TrainingJob.jobs.for_team(job.team).filter(pk=job.pk, fence=job.fence, desired="")
        row = rows.select_for_update(no_key=True, of=("self",)).filter(state__in=sorted(LIVE)).first()
        if row is None or not is_in_ledger(job.team, job.uid):
            return  # it ended, or was not metered when it was queued
        held, charged = sum(held_for(job.team, job.uid).values()), charged_for(job.team, job.uid)
        usable = held if row.hard_cap_seconds is None else min(held, row.hard_cap_seconds - charged)
        if usable - spent * row.rate <= WARNING * row.rate:
            extend(row, charged + held)
