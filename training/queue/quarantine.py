"""Take a slot out of service on which job after job crashes, until an operator looked at it."""

from __future__ import annotations

import logging

from django.db.models import F

from training.models import Attempt, Worker
from training.models.worker import WorkerState
from training.queue.lease import Lease

log = logging.getLogger(__name__)

# Different jobs in a row; one job that crashes everywhere is ended by its own limit.
MOST_CRASHES = 3


# These are of the storage and not of the slot: every slot would meet them.
NOT_ITS_OWN = frozenset({"storage_unavailable", "storage_damaged", "export_damaged"})


def count_crashes(worker: Worker, lease: Lease, crash: str) -> WorkerState:
    """Count an attempt that has ended on `worker`, with the code of its crash if it crashed; return its state now."""
    attempt = Attempt.objects.for_team(lease.team).filter(job_id=lease.job_id, fence=lease.fence).first()
    rows = Worker.objects.filter(pk=worker.pk)
    if crash in NOT_ITS_OWN:
        return WorkerState.IDLE
    if attempt is None or attempt.outcome != "crashed":
        rows.update(crashes_in_a_row=0)
        return WorkerState.IDLE
    before = Attempt.objects.for_team(lease.team).filter(
        worker=worker, job_id=lease.job_id, outcome="crashed"
    )
    if before.exclude(pk=attempt.pk).exists():
        return WorkerState.IDLE  # the same job again
    rows.update(crashes_in_a_row=F("crashes_in_a_row") + 1)
    if rows.filter(crashes_in_a_row__gte=MOST_CRASHES).exists():
        log.error("%s is in quarantine: %d jobs in a row crashed on it", worker, MOST_CRASHES)
        return WorkerState.QUARANTINED
    return WorkerState.IDLE


def is_quarantined(worker: Worker, state: str) -> bool:
    """Tell whether the slot, whose row has `state` now, takes no jobs; an operator may have let it out again since."""
    if state == WorkerState.QUARANTINED:
        return True
    if worker.state == WorkerState.QUARANTINED:
        worker.state = WorkerState.IDLE
    return False


def of_before(name: str) -> Worker | None:
    """Return the slot of this name that was in quarantine when its process ended: a new start is no pardon."""
    return Worker.objects.filter(name=name, state=WorkerState.QUARANTINED).order_by("-pk").first()


def release(workers: list[Worker]) -> None:
    """Put slots back into service."""
    Worker.objects.filter(pk__in=[worker.pk for worker in workers], state=WorkerState.QUARANTINED).update(
        state=WorkerState.IDLE, crashes_in_a_row=0
    )
