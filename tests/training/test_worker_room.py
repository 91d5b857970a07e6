"""A worker whose disk is full leaves the jobs to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.scenario import Scenario
from tests.training.queueing import Bench, attempts, fresh
from training.worker import WorkerSlot, free_mb


class ReadyEngine:
    """Be a ready engine that is never asked to fork."""

    def ensure(self) -> bool:
        return True


@pytest.fixture
def slot() -> WorkerSlot:
    """A slot that looks for a job once, and gives it back at once: it drains."""
    slot = WorkerSlot(name="slot with a small disk")
    slot._warm = ReadyEngine()  # type: ignore[assignment]
    slot.draining.set()
    return slot


def test_a_full_disk_takes_no_job_and_crashes_none(
    scenario: Scenario, slot: WorkerSlot, settings: Any, tmp_path: Path
) -> None:
    settings.RUNS_DIR = tmp_path / "runs"
    job = Bench(scenario.alice).job()
    settings.RUNS_FREE_MB = free_mb(tmp_path) * 2
    slot._once()
    assert (fresh(job).state, fresh(job).crashes, attempts(job)) == ("queued", 0, [])
    settings.RUNS_FREE_MB = 0
    slot._once()
    assert attempts(job) == [(1, "drained")]


def test_a_folder_that_cannot_be_made_has_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert free_mb(tmp_path / "file" / "runs") == 0
    assert free_mb(tmp_path / "runs") > 0
