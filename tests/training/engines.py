"""Real engines for slow tests: a tiny base model, a worker process of its own, and weights to compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from django.conf import settings
from django.db import connection

from accounts.actor import Actor
from billing.models import UsageEntry
from core import storage
from projects.models import Dataset, DatasetVersion, DatasetVersionItem, LoraFile, Project
from tests.training.queueing import events, fresh
from tests.training.rows import make_base, make_blob
from training.models import Attempt, FoundationModel, MetricChunk, TrainingJob
from training.queue.sweep import reap_expired_leases
from training.services.jobs import create_job

PICTURES = 6


def make_tiny_base(folder: Path) -> None:
    """Write a base model of a few thousand weights, in the layout of a real one."""
    from training.engine import registry

    family = registry.load_family("sd")
    family.save(family.tiny(), folder)


class Studio:
    """Make jobs that a real engine finishes in seconds."""

    def __init__(
        self, actor: Actor, base_folder: Path | None = None, *, base: FoundationModel | None = None
    ) -> None:
        self.actor = actor
        self.base: FoundationModel = base or make_base(key="tiny", path=str(base_folder), memory_mb=0)
        project = Project.objects.create(team=actor.team, name="P", created_by=actor.user)
        dataset = Dataset.objects.create(team=actor.team, project=project, name="D", created_by=actor.user)
        self.version = DatasetVersion.objects.create(
            team=actor.team, dataset=dataset, number=1, item_count=PICTURES, manifest_sha256="c" * 64
        )
        for number in range(PICTURES):
            DatasetVersionItem.objects.create(
                team=actor.team,
                version=self.version,
                blob=make_blob(actor, f"picture {number}"),
                position=number,
                filename=f"我的 picture/{number}.png",
                caption=f"a thing number {number}",
            )

    def job(
        self, *, steps: int = 40, checkpoint_every: int = 10, like: TrainingJob | None = None, gpus: int = 1
    ) -> TrainingJob:
        """Queue a job; with as many threads as `like` measured, so that the two can be compared bit for bit."""
        job = create_job(
            actor=self.actor,
            dataset_version=self.version,
            foundation_model=self.base,
            template="style",
            name="Tiny style",
            trigger="ink style",
            settings={
                "training.steps": steps,
                "training.batch_size": 2,
                "checkpoint.every_steps": checkpoint_every,
                "sampling.every_steps": 20,
                "sampling.steps": 2,
            },
            prompts=["a cat, {trigger}"],
            gpus=gpus,
        )
        if like is not None:
            rows = TrainingJob.objects.for_team(self.actor.team).filter(pk=job.pk)
            rows.update(threads=fresh(like).threads)
        return fresh(job)


def weights(job: TrainingJob) -> dict[str, bytes]:
    """Return every tensor of the finished file as bytes."""
    from safetensors.numpy import load

    file = (
        LoraFile.objects.for_team(job.team)
        .select_related("blob")
        .get(version__training_uid=job.uid, is_final=True)
    )
    content = storage.read_bytes(storage.blob_key(job.team.uid, file.blob.sha256))
    return {name: tensor.tobytes() for name, tensor in load(content).items()}


def wait_for(condition: Callable[[], bool], *, seconds: float = 240) -> None:
    """Wait until `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class WorkerProcess:
    """A `manage.py gpu_worker` on the test's own database, Redis and files."""

    def __init__(self, var: Path, *arguments: str, **settings_of_its_own: str) -> None:
        database = connection.settings_dict
        url = f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
        self.log = var / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "gpu_worker", *arguments],
                cwd=settings.BASE_DIR,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "config.settings",
                    "DATABASE_URL": f"{url}/{database['NAME']}",
                    "REDIS_URL": settings.REDIS_URL,
                    "LF_VAR_DIR": str(var),
                    "LF_LEASE_SECONDS": "8",
                    "LF_LEASE_RENEW_SECONDS": "1",
                    "LF_ENGINE_LEASE_SECONDS": "6",
                    **settings_of_its_own,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def engine(self) -> psutil.Process:
        """Return the process of the run under way."""
        (server,) = psutil.Process(self.process.pid).children()
        # A run leads a process group of its own; beside it there may be one that holds its base model, or its parent.
        below = server.children(recursive=True)
        (child,) = [each for each in below if os.getpgid(each.pid) == each.pid]
        return child

    def kill(self) -> None:
        """End it as a crash of the machine would."""
        self.process.kill()
        self.process.wait()

    def drain(self, seconds: float = 30, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to go as Ctrl-C and systemd do, by a signal to its whole process group; return its exit status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(seconds)


class Shop:
    """Hold one folder and one worker for many tests: a worker takes long to import, and survives most tests."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self._worker: WorkerProcess | None = None

    def worker(self) -> WorkerProcess:
        """Return a worker that runs, starting one if needed."""
        if self._worker is None or self._worker.process.poll() is not None:
            self._worker = WorkerProcess(self.var)
        return self._worker

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None and self._worker.process.poll() is None:
            self._worker.kill()


def is_state(job: TrainingJob, *states: str) -> bool:
    return fresh(job).state in states


def reached(job: TrainingJob, step: int) -> bool:
    row = fresh(job)
    assert row.state not in ("failed", "succeeded"), (row.state, row.error_message)
    return row.step >= step


def reap_and(job: TrainingJob, *states: str) -> bool:
    reap_expired_leases()
    return is_state(job, *states)


def all_steps(job: TrainingJob, metric: str = "loss") -> list[int]:
    rows = MetricChunk.objects.for_team(job.team).filter(job=job, metric=metric).order_by("chunk")
    return [step for row in rows for step in row.steps]


def assert_whole(job: TrainingJob, steps: int) -> None:
    """The job ended well: every event, step, picture and second is there once."""
    row = fresh(job)
    assert (row.state, row.step, row.lease_until, row.desired) == ("succeeded", steps, None, "")
    assert [seq for seq, _, _ in events(job)] == list(range(1, row.last_seq + 1))
    assert all_steps(job) == list(range(1, steps + 1))
    shown = [(d["step"], d["with_lora"]) for _, kind, d in events(job) if kind == "sample"]
    assert shown == [(0, False), *((step, True) for step in range(20, steps + 1, 20))]
    made = Attempt.objects.for_team(job.team).filter(job=job)
    assert all(attempt.ended_at is not None for attempt in made)
    billed = UsageEntry.objects.for_team(job.team).filter(job_uid=job.uid)
    assert sorted(billed.values_list("attempt", flat=True)) == sorted(made.values_list("fence", flat=True))
