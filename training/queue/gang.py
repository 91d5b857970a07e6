"""Jobs on several GPUs: slots of one machine, taken at once and given back together.

Whoever claims such a job lends it the other slots, under the lock of the claims. They take nothing until the attempt
ends, in the transaction that ends it (`lifecycle.move`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from core.periodic import every
from training.models import TrainingJob, Worker
from training.models.worker import WorkerState
from training.queue.policy import Room, class_of_gpu
from training.queue.workers import GPU_SEEN, classes_of, has_gpus, serving
from training.states import LIVE

# The most that a training may ask for: what machines are sold with.
MOST_GPUS = 8


def room_beside(worker: Worker, classes: Sequence[int], *, gpus: bool) -> Room:
    """Return what the machine of a free slot has for the classes of jobs that the slot may take (one query)."""
    others = _others(worker)
    taken = {each.name for each in others if not _is_free(each)}
    free, slots = {}, {}
    for gb in classes:
        fitting = [each for each in others if gb in classes_of(each, gpus=gpus)]
        names = {each.name for each in fitting}
        free[gb] = 1 + len(names - taken)
        slots[gb] = 1 + len(names)
    return Room(worker.node, free, slots)


def hold_back(job_id: int, node: str, hold_for: float) -> None:
    """Note that a machine begins to hold slots back for a job, unless it has begun already."""
    begun = Q(held_since__gt=timezone.now() - timedelta(seconds=2 * hold_for))
    TrainingJob.unscoped.filter(pk=job_id).exclude(begun).update(held_since=Now(), held_node=node)


def lend(job: TrainingJob, worker: Worker) -> list[Worker] | None:
    """Lend a locked job the other slots it needs, the smallest that suffice; None if there are not enough."""
    gpus = bool(worker.memory_mb) or has_gpus()
    others = _others(worker)
    taken = {each.name for each in others if not _is_free(each)}
    chosen: dict[str, Worker] = {}
    for each in sorted(others, key=lambda each: (each.gpu_gb, each.number, each.name, -each.pk)):
        if each.name not in taken and job.gpu_gb in classes_of(each, gpus=gpus):
            chosen.setdefault(each.name, each)
    lent = list(chosen.values())[: job.gpus - 1]
    if len(lent) < job.gpus - 1:
        return None
    Worker.objects.filter(pk__in=[each.pk for each in lent]).update(lent_to=job)
    return lent


def give_back(job: TrainingJob) -> None:
    """Take back what was lent to a job whose attempt has ended."""
    if job.gpus > 1:
        Worker.objects.filter(lent_to=job).update(lent_to=None)


@every(15)
def give_back_what_nobody_uses() -> int:
    """Take back slots whose job runs no longer, whatever became of it; return how many."""
    return Worker.objects.exclude(lent_to=None).exclude(lent_to__state__in=sorted(LIVE)).update(lent_to=None)


def most_gpus(gpu_gb: int = 0) -> int:
    """Return how many slots of the class `gpu_gb` the largest machine has, of those seen in the last day; at least 1.

    Two queries.
    """
    rows = Worker.objects.filter(seen_at__gte=timezone.now() - GPU_SEEN).exclude(node="")
    if has_gpus():
        rows = rows.filter(memory_mb__gt=0)
    names: dict[str, set[str]] = {}
    for node, name, memory_mb in rows.values_list("node", "name", "memory_mb"):
        if not memory_mb or class_of_gpu(memory_mb) >= gpu_gb:
            names.setdefault(node, set()).add(name)
    return min(MOST_GPUS, max(map(len, names.values()), default=1))


def _others(worker: Worker) -> list[Worker]:
    """Return the other slots of a machine that serve, of the same sort; a name twice is one slot (one query)."""
    if not worker.node:
        return []
    rows: QuerySet[Worker] = serving().filter(node=worker.node).exclude(name=worker.name)
    rows = rows.filter(memory_mb__gt=0) if worker.memory_mb else rows.filter(memory_mb=0)
    live = TrainingJob.unscoped.filter(worker=OuterRef("pk"), state__in=sorted(LIVE))
    return list(rows.annotate(is_at_work=Exists(live)))


def _is_free(other: Worker) -> bool:
    is_promised = other.reserved_until is not None and other.reserved_until > timezone.now()
    return (
        other.state == WorkerState.IDLE
        and other.lent_to_id is None
        and not is_promised
        and not other.is_at_work  # type: ignore[attr-defined]
    )
