"""Rows of the training pages for tests, the way the services and a worker would leave them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from accounts.actor import Actor
from core.storage import blob_key, save_bytes
from projects.models import Blob, Dataset, DatasetVersion, DatasetVersionItem, Project
from tests.factories import png_bytes
from training.models import Attempt, Checkpoint, FoundationModel, JobEvent, MetricChunk, Sample, TrainingJob
from training.states import JobState


def make_base(**fields: Any) -> FoundationModel:
    """Make a base model like the demo one."""
    values: dict[str, Any] = {
        "key": "demo",
        "name": "Foundry Demo",
        "family": "sd",
        "path": "base",
        "sha256": "a" * 64,
        "licence": "Apache-2.0",
        "resolution": 64,
        "memory_mb": 600,
        "prompts": ["a cat", "an apple", "a rocket", "a crown", "a ghost"],
        "is_demo": True,
    }
    return FoundationModel.objects.create(**{**values, **fields})


def make_blob(actor: Actor, seed: str = "a", content: bytes | None = None) -> Blob:
    """Store a picture (or `content`) for the actor's team."""
    content = content if content is not None else png_bytes((64, 64), seed)
    digest = hashlib.sha256(content).hexdigest()
    save_bytes(blob_key(actor.team.uid, digest), content)
    blob, _created = Blob.objects.for_team(actor.team).get_or_create(
        sha256=digest,
        defaults={
            "team": actor.team,
            "size": len(content),
            "content_type": "image/png",
            "width": 64,
            "height": 64,
        },
    )
    return blob


def make_version(
    actor: Actor, *, count: int = 24, caption: str = "a dog", name: str = "Ink", captions: Sequence[str] = ()
) -> DatasetVersion:
    """Make a project with one dataset, frozen once with `count` pictures, or with one for each of `captions`."""
    captions = captions or [caption] * count
    project = Project.objects.create(team=actor.team, name=f"Project {name}", created_by=actor.user)
    dataset = Dataset.objects.create(team=actor.team, project=project, name=name, created_by=actor.user)
    version = DatasetVersion.objects.create(
        team=actor.team,
        dataset=dataset,
        number=1,
        item_count=len(captions),
        manifest_sha256="b" * 64,
        created_by=actor.user,
    )
    blob = make_blob(actor)
    DatasetVersionItem.objects.bulk_create(
        [
            DatasetVersionItem(
                team=actor.team,
                version=version,
                blob=blob,
                position=n,
                filename=f"{n}.png",
                caption=text,
            )
            for n, text in enumerate(captions)
        ]
    )
    return version


def set_state(job: TrainingJob, state: JobState, **fields: Any) -> TrainingJob:
    """Put a job into a state, with the lease or the end that belongs to it."""
    live = state in {JobState.STARTING, JobState.RUNNING, JobState.STOPPING, JobState.FINALIZING}
    done = state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.STOPPED}
    TrainingJob.objects.for_team(job.team).filter(pk=job.pk).update(
        state=state,
        lease_until=timezone.now() if live else None,
        finished_at=timezone.now() if done else None,
        **fields,
    )
    job.refresh_from_db()
    return job


def fill_run(job: TrainingJob, actor: Actor, rounds: int) -> None:
    """Give a job the telemetry of a run: samples, checkpoints, curves, log."""
    blob = make_blob(actor)
    for number in range(rounds):
        step = 20 * number
        Sample.objects.create(
            team=job.team, job=job, blob=blob, step=step, epoch=number, prompt_index=0, prompt="a cat",
            seed=42, with_lora=number > 0,
        )  # fmt: skip
        Checkpoint.objects.create(team=job.team, job=job, fence=1, step=step, epoch=number, export=blob)
        MetricChunk.objects.create(
            team=job.team, job=job, metric="loss", chunk=number, steps=[step], values=[0.5]
        )
        JobEvent.objects.create(
            team=job.team, job=job, seq=100 + number, fence=1, type="log", at=timezone.now(),
            data={"level": "info", "message": f"round {number}"},
        )  # fmt: skip
        Attempt.objects.create(team=job.team, job=job, fence=10 + number, started_at=timezone.now())
