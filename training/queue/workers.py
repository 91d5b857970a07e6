"""Which workers serve the queue, and which jobs each may take."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from training.models import Worker
from training.models.worker import WorkerState
from training.queue.policy import GPU_CLASSES

# A processor takes jobs that need a GPU only where none was seen for so long.
GPU_SEEN = timedelta(days=1)
SEEN = timedelta(minutes=1)
_APART = (WorkerState.LOST, WorkerState.DRAINING, WorkerState.QUARANTINED)


def serving() -> QuerySet[Worker]:
    """Return the workers that take jobs: seen of late, neither leaving nor in quarantine."""
    return Worker.objects.filter(seen_at__gte=timezone.now() - SEEN).exclude(state__in=_APART)


def has_gpus() -> bool:
    """Tell whether this installation has GPUs, as far as was seen in the last day (one query)."""
    return Worker.objects.filter(memory_mb__gt=0, seen_at__gte=timezone.now() - GPU_SEEN).exists()


def classes_of(worker: Worker, *, gpus: bool) -> list[int]:
    """Return the classes of jobs that a worker may take, the smallest first; `gpus` is what `has_gpus` says."""
    if worker.memory_mb:
        return [gb for gb in GPU_CLASSES if gb <= worker.gpu_gb]
    return [0] if gpus else list(GPU_CLASSES)
