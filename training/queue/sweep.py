"""What the clock does for the queue: reap, wake workers, notice the lost. All of it may run twice or not at all."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from core.periodic import every
from training.models import TrainingJob, Worker
from training.models.worker import WorkerState
from training.services.lifecycle import CrashReport, crash_job
from training.states import LIVE, JobState

log = logging.getLogger(__name__)

WORKER_LOST_AFTER = timedelta(seconds=45)
WORKER_FORGOTTEN_AFTER = timedelta(days=7)


@every(5)
def reap_expired_leases() -> int:
    """Take every job back whose worker went silent; return how many."""
    reaped = 0
    while True:
        with transaction.atomic():
            job = (
                TrainingJob.unscoped.select_related("team")
                .select_for_update(no_key=True, skip_locked=True, of=("self",))
                .filter(state__in=LIVE, lease_until__lt=Now())
                .order_by("lease_until")
                .first()
            )
            if job is None:
                return reaped
            log.warning("%s was left by its worker in state %s", job.uid, job.state)
            crash_job(job, CrashReport("worker_lost", "The worker that ran this training went silent."))
            # From here on the silent worker, should it wake up, can write nothing.
            job.fence += 1
            job.save(update_fields=["fence"])
            reaped += 1


@every(5)
def top_up_tickets() -> int:
    """Send a ticket for each waiting job that an idle worker could take; return how many."""
    from training.tasks import send_ticket

    idle = Worker.objects.filter(
        state=WorkerState.IDLE, lent_to=None, seen_at__gte=timezone.now() - WORKER_LOST_AFTER
    ).count()
    if not idle:
        return 0
    waiting = (
        TrainingJob.unscoped.filter(state=JobState.QUEUED, is_test=False)
        .filter(Q(run_after=None) | Q(run_after__lte=Now()))
        .count()
    )
    wanted = min(idle, waiting)
    for _ticket in range(wanted):
        send_ticket()
    return wanted


@every(15)
def notice_lost_workers() -> int:
    """Mark workers that give no sign of life; forget those gone for a week. Return how many were marked."""
    now = timezone.now()
    gone = [WorkerState.LOST, WorkerState.QUARANTINED]
    Worker.objects.filter(state__in=gone, seen_at__lt=now - WORKER_FORGOTTEN_AFTER).delete()
    return (
        Worker.objects.exclude(state__in=gone)
        .filter(seen_at__lt=now - WORKER_LOST_AFTER)
        .update(state=WorkerState.LOST)
    )
