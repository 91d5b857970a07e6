"""Jobs, workers and engines for tests of the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.actor import Actor
from projects.models import DatasetVersion
from tests.training.rows import make_base, make_version
from training.models import Attempt, FoundationModel, JobEvent, TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.lease import Lease
from training.services import lifecycle
from training.services.generations import create_generation
from training.services.jobs import create_job


class Bench:
    """Hold what every job of a test is made of."""

    def __init__(self, actor: Actor, *, name: str = "Ink", base: FoundationModel | None = None) -> None:
        self.actor = actor
        self.base = base or FoundationModel.objects.filter(key="demo").first() or make_base()
        self.version: DatasetVersion = make_version(actor, name=name)
        self.worker = make_worker()

    def job(self, name: str = "Ink style", *, waited: float = 0.0, **fields: Any) -> TrainingJob:
        """Queue a job that has waited for so many seconds."""
        job = create_job(
            actor=self.actor,
            dataset_version=self.version,
            foundation_model=self.base,
            template="style",
            name=name,
            trigger="ink style",
            settings={"training.steps": 60},
        )
        since = timezone.now() - timedelta(seconds=waited)
        values = {"queued_at": since, "line_at": since, **fields}
        TrainingJob.objects.for_team(self.actor.team).filter(pk=job.pk).update(**values)
        job.refresh_from_db()
        return job

    def order(self, *prompts: str, waited: float = 0.0, **fields: Any) -> TrainingJob:
        """Queue an order of pictures, drawn by the base model alone, that has waited for so many seconds."""
        job = create_generation(
            actor=self.actor,
            prompts=prompts or ["a cat"],
            base_model=self.base,
            project=self.version.dataset.project,
        )
        since = timezone.now() - timedelta(seconds=waited)
        values = {"queued_at": since, "line_at": since, **fields}
        TrainingJob.jobs.for_team(self.actor.team).filter(pk=job.pk).update(**values)
        return fresh(job)

    def claim(self) -> Lease:
        """Claim the best job, which must be there."""
        lease = claim_next(self.worker)
        assert lease is not None
        return lease


def make_worker(name: str = "slot", **fields: Any) -> Worker:
    """Make the row of an idle worker."""
    return Worker.objects.create(**{"name": name, "device": "CPU", "seen_at": timezone.now(), **fields})


def make_machine(node: str, count: int, memory_mb: int = 24_564) -> list[Worker]:
    """Make the rows of the idle workers of one machine."""
    return [
        make_worker(f"{node}:{number}", node=node, number=number, memory_mb=memory_mb)
        for number in range(count)
    ]


def end_now(lease: Lease) -> None:
    """Cancel the job of an attempt as its worker does."""
    with transaction.atomic():
        lifecycle.cancel_job_now(lifecycle.hold(lease))


def fresh(job: TrainingJob) -> TrainingJob:
    """Return the job as it is in the database now."""
    found: TrainingJob = TrainingJob.jobs.for_team(job.team).get(pk=job.pk)
    return found


def let_lease_end(job: TrainingJob) -> None:
    """Put the end of a live job's lease into the past."""
    rows = TrainingJob.jobs.for_team(job.team).filter(pk=job.pk)
    rows.update(lease_until=timezone.now() - timedelta(seconds=1))


def events(job: TrainingJob) -> list[tuple[int, str, dict[str, Any]]]:
    """Return all events of a job as (seq, type, data)."""
    rows = JobEvent.objects.for_team(job.team).filter(job=job).order_by("seq")
    return list(rows.values_list("seq", "type", "data"))


def statuses(job: TrainingJob) -> list[str]:
    """Return the states a job went through, in order."""
    return [data["state"] for _seq, kind, data in events(job) if kind == "status"]


def attempts(job: TrainingJob) -> list[tuple[int, str]]:
    """Return (fence, outcome) of each attempt."""
    rows = Attempt.objects.for_team(job.team).filter(job=job).order_by("fence")
    return list(rows.values_list("fence", "outcome"))
