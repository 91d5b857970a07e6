"""Say what a waiting job waits for: who is ahead, how long that takes, and why it does not run yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.db import connection
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Team
from billing.entitlements import plan_of
from core.quotas import answer
from training.models import TrainingJob, Worker
from training.queue.policy import WAITING, parameters, score
from training.states import LIVE

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
    """Return the outlook of a job queued at `queued_at`, or of one that would be queued now (four queries)."""
    live = TrainingJob.unscoped.filter(state__in=sorted(LIVE), is_test=False).aggregate(
        running=Count("id"),
        own=Count("id", filter=Q(team=team)),
        seconds=Sum(Coalesce(F("eta_seconds"), UNKNOWN_SECONDS)),
    )
    allowed = answer(team, "running_trainings", used=live["own"])
    mine = score(plan_of(team), queued_at=queued_at or timezone.now(), running=live["own"])
    ahead, seconds_ahead = _waiting_before(mine)
    workers = Worker.objects.filter(seen_at__gte=timezone.now() - WORKER_SEEN).count()
    work = seconds_ahead + (live["seconds"] or 0)
    reason: Reason = "others_ahead"
    if not workers:
        reason = "no_worker"
    elif not allowed.is_allowed:
        reason = "team_limit"
    elif workers > live["running"] and not ahead:
        reason = "starts_now"
    return Outlook(
        place=ahead + 1,
        running=live["running"],
        workers=workers,
        wait_seconds=0 if reason == "starts_now" else round(work / max(1, workers)),
        reason=reason,
    )


def _waiting_before(score: float) -> tuple[int, float]:
    """Return how many jobs wait that start before one with `score`, and the seconds they are expected to take."""
    with connection.cursor() as cursor:
        # A thousandth of a second, for a job that would stand before itself by a rounding.
        cursor.execute(
            f"SELECT count(*), coalesce(sum(estimated_seconds), 0) FROM ({WAITING}) waiting WHERE score < %(mine)s",  # noqa: S608
            {**parameters(), "mine": score - 0.001},
        )
        count, seconds = cursor.fetchone()
    return int(count), float(seconds)
