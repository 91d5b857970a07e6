"""What an attempt finds on its machine: pictures, what an earlier attempt left, and a cache that forgets."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from django.db import connection
from django.utils import timezone

from core import storage
from core.storage import run_key, save_bytes
from projects.models import DatasetVersion, DatasetVersionItem
from tests.scenario import Scenario, make_scenario
from tests.training.queueing import Bench, attempts, fresh
from tests.training.rows import make_blob
from training import worker_cache
from training.engine import events as told
from training.models import Checkpoint, Sample, TrainingJob
from training.queue.lease import Lease
from training.run_folder import complete_spec, prepare
from training.runner import Runner
from training.services import control, telemetry
from training.services.checkpoints import STATE_FILES
from training.warm import WarmEngine
from training.worker_cache import cached_picture, sweep_cache


@pytest.fixture
def disk(settings: Any, tmp_path: Path) -> Path:
    settings.RUNS_DIR, settings.ENGINE_CACHE_DIR = tmp_path / "runs", tmp_path / "cache"
    return tmp_path


def plan(**fields: Any) -> told.Plan:
    values = {
        "total_steps": 60,
        "epochs": 3,
        "steps_per_epoch": 20,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "device": "cpu",
        "threads": 2,
        "precision": "fp32",
        "adapted_modules": 1,
        "trainable_parameters": 1,
        "images": 24,
        "buckets": {},
        "resumed_from_step": 0,
    }
    return told.Plan(**{**values, **fields})


def untold(_done: int, _total: int) -> None:
    """Take progress."""


# -- What an earlier attempt left -------------------------------------------------------------------------------------


def test_thread_count_of_the_first_attempt_is_handed_to_the_next(scenario: Scenario, disk: Path) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    assert complete_spec(fresh(job), disk / "m", disk / "base")["threads"] == 0
    telemetry.record(lease, disk, [(plan(threads=3), timezone.now())])
    assert fresh(job).spec["threads"] == 0
    folder = prepare(lease, fresh(job), untold)
    assert json.loads(folder.spec.read_text())["threads"] == 3


def test_thread_count_of_a_graphics_card_is_not_kept(scenario: Scenario, disk: Path) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    telemetry.record(bench.claim(), disk, [(plan(device="NVIDIA L4", threads=16), timezone.now())])
    assert fresh(job).threads == 0


def test_resumed_attempt_finds_the_samples_of_the_step_it_goes_on_from(
    scenario: Scenario, disk: Path
) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    blobs = {step: make_blob(scenario.alice, f"step {step}") for step in (0, 20, 40, 60)}
    for step, blob in blobs.items():
        Sample.objects.create(
            team=job.team,
            job=job,
            blob=blob,
            step=step,
            epoch=1,
            prompt_index=1,
            prompt="a cat",
            seed=42,
            with_lora=step > 0,
        )
    for step in (40, 60):
        names = [run_key(job.team.uid, job.uid, 1, f"step-{step}", name) for name in STATE_FILES]
        for name in names:
            save_bytes(name, b"state")
        key = names[0].rpartition("/")[0]
        Checkpoint.objects.create(team=job.team, job=job, fence=1, step=step, epoch=1, state_key=key)
    folder = prepare(lease, fresh(job), untold)
    assert folder.resume_from == folder.path / "checkpoints" / "step-00000060"
    assert sorted(path.name for path in (folder.path / "samples").iterdir()) == [
        "step-00000000-p1.png",
        "step-00000040-p1.png",
        "step-00000060-p1.png",
    ]
    key = storage.blob_key(job.team.uid, blobs[60].sha256)
    assert (folder.path / "samples" / "step-00000060-p1.png").read_bytes() == storage.read_bytes(key)


def test_clips_among_the_samples_keep_their_kind_and_name(scenario: Scenario, disk: Path) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease = bench.claim()
    (disk / "a.webp").write_bytes(b"a clip")
    telemetry.record(
        lease, disk, [(told.Sample(0, 0, 1, "a cat", 42, "a.webp", 64, 64, False), timezone.now())]
    )
    assert Sample.objects.for_team(job.team).get(job=job).blob.content_type == "image/webp"
    names = [run_key(job.team.uid, job.uid, 1, "step-40", name) for name in STATE_FILES]
    for name in names:
        save_bytes(name, b"state")
    key = names[0].rpartition("/")[0]
    Checkpoint.objects.create(team=job.team, job=job, fence=1, step=40, epoch=1, state_key=key)
    folder = prepare(lease, fresh(job), untold)
    assert (folder.path / "samples" / "step-00000000-p1.webp").read_bytes() == b"a clip"


# -- Fetching -----------------------------------------------------------------------------------------------------


class Fetching:
    """A job whose pictures are fetched by a runner; `at` is called before the picture of that number."""

    def __init__(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int, do: Callable[[], None]
    ) -> None:
        self.fetched = 0
        copy = storage.copy_to

        def watched(key: str, path: Path) -> str:
            self.fetched += 1
            if self.fetched == at:
                do()
            return copy(key, path)

        monkeypatch.setattr(storage, "copy_to", watched)
        self.draining = threading.Event()
        self.runner = Runner(bench.claim(), cast(WarmEngine, None), self.draining)

    def wait_for_wish(self) -> None:
        deadline = time.monotonic() + 20
        while not self.runner._keeper.desired:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def version_of(bench: Bench, count: int) -> DatasetVersion:
    """Freeze a version of different pictures."""
    version: DatasetVersion = DatasetVersion.objects.create(
        team=bench.actor.team,
        dataset=bench.version.dataset,
        number=2,
        item_count=count,
        manifest_sha256="d" * 64,
    )
    for number in range(count):
        DatasetVersionItem.objects.create(
            team=bench.actor.team,
            version=version,
            blob=make_blob(bench.actor, f"{number}"),
            position=number,
            filename=f"{number}.png",
        )
    return version


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("wish", "state", "outcome"),
    [(control.cancel_job, "canceled", "canceled"), (control.pause_job, "paused", "paused")],
)
def test_wish_is_carried_out_between_two_pictures(
    disk: Path, monkeypatch: pytest.MonkeyPatch, wish: Callable[..., TrainingJob], state: str, outcome: str
) -> None:
    bench = Bench(make_scenario().alice)
    bench.version = version_of(bench, 6)
    job = bench.job()

    def ask() -> None:
        thread = threading.Thread(
            target=lambda: (wish(actor=bench.actor, job=fresh(job)), connection.close())
        )
        thread.start()
        thread.join()
        fetching.wait_for_wish()

    fetching = Fetching(bench, monkeypatch, 2, ask)
    fetching.runner.run()
    assert fetching.fetched == 2
    assert fresh(job).state == state
    assert attempts(job) == [(1, outcome)]
    assert not (disk / "runs" / job.uid).exists()


@pytest.mark.django_db(transaction=True)
def test_draining_worker_does_not_fetch_all_pictures_first(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(make_scenario().alice)
    bench.version = version_of(bench, 6)
    job = bench.job()
    fetching = Fetching(bench, monkeypatch, 3, lambda: fetching.draining.set())
    fetching.runner.run()
    assert fetching.fetched == 3
    assert (fresh(job).state, attempts(job)) == ("queued", [(1, "drained")])


# -- The cache ------------------------------------------------------------------------------------------------------


def aged(path: Path, days: float, size: int = 1000) -> Path:
    """Write a file that is so many days old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = time.time() - days * 86_400
    os.utime(path, (moment, moment))
    return path


def test_cache_forgets_what_is_older_than_its_days(disk: Path, settings: Any) -> None:
    settings.CACHE_DAYS = 30
    old = aged(disk / "cache" / "team_a" / "pictures" / "ab" / "abc", 31)
    shard = aged(disk / "cache" / "team_a" / "encoded" / "latents" / "sd-1" / "x.safetensors", 40)
    young = aged(disk / "cache" / "team_b" / "pictures" / "ab" / "abc", 29)
    assert sweep_cache() == 2000
    assert not old.parent.exists()
    assert not shard.parent.exists()
    assert young.exists()


def test_cache_forgets_the_oldest_when_it_is_full_and_nothing_just_written(disk: Path, settings: Any) -> None:
    settings.CACHE_DAYS, settings.CACHE_MAX_GB = 30, 2500e-9
    files = [aged(disk / "cache" / "t" / "pictures" / f"{days}", days) for days in (3, 2, 1, 0)]
    assert sweep_cache() == 2000
    assert [path.exists() for path in files] == [False, False, True, True]
    settings.CACHE_MAX_GB = 0
    sweep_cache()
    assert [path.exists() for path in files] == [False, False, False, True]


def test_picture_that_was_forgotten_is_fetched_again(scenario: Scenario, disk: Path, settings: Any) -> None:
    settings.CACHE_DAYS = 30
    blob = make_blob(scenario.alice, "a")
    path = cached_picture(scenario.team, blob)
    aged(path, 31, size=blob.size)
    sweep_cache()
    assert not path.exists()
    again = cached_picture(scenario.team, blob)
    assert again.read_bytes() == storage.read_bytes(storage.blob_key(scenario.team.uid, blob.sha256))


def test_picture_forgotten_at_the_moment_of_its_use_does_no_harm(
    scenario: Scenario, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    lease: Lease = bench.claim()
    forget = [True]

    def swept_once(team: Any, blob: Any) -> Path:
        path = cached_picture(team, blob)
        if forget.pop() if forget else False:
            path.unlink()
        return path

    monkeypatch.setattr("training.run_folder.cached_picture", swept_once)
    folder = prepare(lease, fresh(job), untold)
    assert len(list((folder.path / "data").glob("*/*.png"))) == 24


def test_damaged_storage_is_noticed(scenario: Scenario, disk: Path) -> None:
    blob = make_blob(scenario.alice, "a")
    key = storage.blob_key(scenario.team.uid, blob.sha256)
    storage.delete(key)
    save_bytes(key, b"other bytes")
    with pytest.raises(worker_cache.DamagedBlob):
        cached_picture(scenario.team, blob)
    assert [path for path in (disk / "cache").rglob("*") if path.is_file()] == []
