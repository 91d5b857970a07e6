"""Versions with several files, and evaluations of them as an engine leaves them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.utils import timezone

from projects.models import LoraFile, LoraVersion
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import fresh
from tests.training.rows import make_blob
from tests.world import World
from training.engine import events as told
from training.findings import Findings
from training.models import TrainingJob, Worker
from training.queue.claim import claim_next
from training.services import lifecycle, telemetry
from training.services.evaluations import evaluate_version
from training.services.finalize import complete_short


def add_file(scenario: Scenario, version: LoraVersion, step: int, *, epoch: int = 1) -> LoraFile:
    file: LoraFile = LoraFile.objects.create(
        team=scenario.team,
        version=version,
        blob=make_blob(scenario.alice, content=f"weights {step}".encode()),
        filename=f"m-step{step:08d}.safetensors",
        step=step,
        epoch=epoch,
    )
    return file


def evaluation(scenario: Scenario, world: World, **values: Any) -> TrainingJob:
    return evaluate_version(actor=scenario.alice, version=world.model_version, **values)


def orders(scenario: Scenario) -> int:
    return TrainingJob.jobs.for_team(scenario.team).count()


def tell(job: TrainingJob, folder: Path, *figures: tuple[float | None, float | None]) -> TrainingJob:
    """Claim a job and have an engine tell figures of the base and of each file, then the end."""
    worker = Worker.objects.create(name="w", device="CPU", seen_at=timezone.now())
    lease = claim_next(worker)
    assert lease is not None
    assert lease.job_uid == job.uid
    (folder / "a.png").write_bytes(b"picture")
    found = Findings.from_dict(job.evaluation or {})
    now = timezone.now()
    telemetry.record(lease, folder, [(told.Phase("evaluate", 0, 10), now)])
    of_file = len(job.spec["prompts"]) * job.spec["count"]
    for number, (file, (style, content)) in enumerate(zip((found.base, *found.files), figures, strict=True)):
        drawn = [
            told.Sample(0, 0, number * of_file + n, "a cat", 42 + n, "a.png", 64, 64, number > 0)
            for n in range(of_file)
        ]
        telling = told.Finding(file.file, file.step, style, content, of_file)
        telemetry.record(lease, folder, [(each, now) for each in (*drawn, telling)])
    complete_short(lifecycle.hold(lease))
    return fresh(job)


def page(scenario: Scenario, world: World, actor: Any = None) -> str:
    answer = client_of(actor or scenario.alice).get(f"/t/{scenario.team.slug}/models/{world.model.uid}/")
    assert answer.status_code == 200
    return answer.content.decode()
