"""Say what a waiting job waits for: who is ahead, how long that takes, and why it does not run yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Team
from training.models import TrainingJob, Worker
from training.states import LIVE, JobState

WORKER_SEEN = timedelta(minutes=2)
# A running job without a forecast of its own.
UNKNOWN_SECONDS = 120.0

Reason = Literal["starts_now", "no_worker", "team_limit", "others_ahead"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """Hold the place in the queue (1 is next), the jobs under way, the workers and the expected wait in seconds."""

    place: int
    running: int
    workers: int
    wait_seconds: int
    reason: Reason


def queue_outlook(team: Team, *, queued_at: datetime | None = None) -> Outlook:
    """Return the outlook of a job queued at `queued_at`, or of one that would be queued now (two queries)."""
    moment = queued_at or timezone.now()
    ahead = Q(state=JobState.QUEUED, queued_at__lt=moment, is_test=False)
    live = Q(state__in=sorted(LIVE), is_test=False)
    counts = TrainingJob.unscoped.filter(ahead | live).aggregate(
        ahead=Count("id", filter=ahead),
        running=Count("id", filter=live),
        own=Count("id", filter=live & Q(team=team)),
        waiting_seconds=Sum("estimated_seconds", filter=ahead),
        running_seconds=Sum(Coalesce(F("eta_seconds"), UNKNOWN_SECONDS), filter=live),
    )
    workers = Worker.objects.filter(seen_at__gte=timezone.now() - WORKER_SEEN).count()
    work = (counts["waiting_seconds"] or 0) + (counts["running_seconds"] or 0)
    free = workers > counts["running"] and not counts["ahead"]
    reason: Reason = "others_ahead"
    if not workers:
        reason = "no_worker"
    elif counts["own"] >= settings.TEAM_MAX_RUNNING:
        reason = "team_limit"
    elif free:
        reason = "starts_now"
    return Outlook(
        place=counts["ahead"] + 1,
        running=counts["running"],
        workers=workers,
        wait_seconds=0 if reason == "starts_now" else round(work / max(1, workers)),
        reason=reason,
    )
