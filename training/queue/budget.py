"""Look after the reserves of running jobs: more where there is more, rest where there is none."""

from __future__ import annotations

from django.db.models import F
from django.utils import timezone

from billing.selectors import charged_for
from billing.services.ledger import InsufficientCredits, held_for
from core.periodic import every
from training.models import Attempt
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
        job = attempt.job
        held = sum(held_for(job.team, job.uid).values())
        if not held:
            continue  # not metered when it was queued
        spent = (now - attempt.started_at).total_seconds()
        if held - spent > WARNING:
            continue
        try:
            extend(job, charged_for(job.team, job.uid) + held)
        except InsufficientCredits as error:
            rested += let_rest(job, error)
    return rested
