"""What an engine tells, as it is stored: dense events, curves without doubles, pictures and files once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from core import storage
from tests.factories import png_bytes
from tests.scenario import Scenario
from tests.training.queueing import Bench, events, let_lease_end, statuses
from training.engine import events as told
from training.models import Attempt, Checkpoint, MetricChunk, Sample, TrainingJob
from training.queue.lease import Lease
from training.queue.sweep import reap_expired_leases
from training.services import telemetry
from training.services.checkpoints import STATE_FILES, newest_states

Points = list[tuple[int, float]]


def metrics(step: int, points: Points, **series: Points) -> told.Metrics:
    return told.Metrics(step, 60, 1, 2.5, 10.0, 100, {"loss": points, **series})


def record(lease: Lease, run_dir: Path, *happened: told.Event) -> None:
    telemetry.record(lease, run_dir, [(event, timezone.now()) for event in happened])


@pytest.fixture
def running(scenario: Scenario) -> tuple[Bench, Lease]:
    bench = Bench(scenario.alice)
    bench.job()
    return bench, bench.claim()


def sample(run_dir: Path, step: int, *, lora: bool = True, seed: int = 42) -> told.Sample:
    path = run_dir / "samples" / f"step-{step:08d}-p0.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes((64, 64), f"{step}/{seed}"))
    return told.Sample(step, 1, 0, "a cat", seed, str(path.relative_to(run_dir)), 64, 64, lora)


def checkpoint(run_dir: Path, step: int, content: bytes = b"weights") -> told.Checkpoint:
    folder = run_dir / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in STATE_FILES:
        (folder / name).write_bytes(f"{name} {step}".encode())
    export = run_dir / "exports" / f"x-step{step:08d}.safetensors"
    export.parent.mkdir(exist_ok=True)
    export.write_bytes(content + str(step).encode())
    digest = hashlib.sha256(export.read_bytes()).hexdigest()
    size = export.stat().st_size
    return told.Checkpoint(
        step, 1, f"checkpoints/{folder.name}", 99, str(export.relative_to(run_dir)), size, digest
    )


def test_numbers_of_events_are_dense_over_batches(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    record(lease, tmp_path, told.Log("info", "one"), told.Log("info", "two"))
    record(lease, tmp_path, metrics(1, [(1, 0.5)]))
    job = _job(lease)
    assert [(seq, kind) for seq, kind, _ in events(job)] == [
        (1, "status"),
        (2, "status"),
        (3, "log"),
        (4, "log"),
        (5, "metrics"),
    ]
    assert job.last_seq == 5


def test_gauges_follow_the_last_event(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    record(lease, tmp_path, told.Phase("cache_latents", 3, 20))
    job = _job(lease)
    assert (job.phase, job.phase_done, job.phase_total, job.state) == ("cache_latents", 3, 20, "starting")
    record(lease, tmp_path, told.Phase("train", 0, 60), metrics(2, [(1, 0.5), (2, 0.25)]))
    job = _job(lease)
    assert (job.state, job.step, job.total_steps, job.loss, job.eta_seconds) == ("running", 2, 60, 0.25, 10.0)
    assert statuses(job) == ["queued", "starting", "running"]


def test_a_curve_is_one_row_for_a_thousand_steps(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    for step in (1, 2, 999, 1000, 1001):
        record(lease, tmp_path, metrics(step, [(step, step / 10)], grad_norm=[(step, 1.0)]))
    rows = MetricChunk.objects.for_team(lease.team).order_by("metric", "chunk")
    assert [(row.metric, row.chunk, row.steps, row.values) for row in rows] == [
        ("grad_norm", 0, [1, 2, 999], [1.0, 1.0, 1.0]),
        ("grad_norm", 1, [1000, 1001], [1.0, 1.0]),
        ("loss", 0, [1, 2, 999], [0.1, 0.2, 99.9]),
        ("loss", 1, [1000, 1001], [100.0, 100.1]),
    ]


def test_a_value_that_was_not_finite_leaves_a_gap(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    record(lease, tmp_path, metrics(2, [(1, 0.5), (2, None)]))  # type: ignore[list-item]
    row = MetricChunk.objects.for_team(lease.team).get()
    assert (row.steps, row.values) == ([1], [0.5])


def test_steps_made_again_after_a_crash_double_nothing(
    running: tuple[Bench, Lease], tmp_path: Path, django_capture_on_commit_callbacks: Callable[..., object]
) -> None:
    bench, lease = running
    record(lease, tmp_path, metrics(2, [(1, 0.5), (2, 0.4)]), sample(tmp_path, 2), checkpoint(tmp_path, 2))
    job = _job(lease)
    seq = job.last_seq
    first = Sample.objects.for_team(lease.team).get()
    let_lease_end(job)
    reap_expired_leases()
    again = bench.claim()
    with django_capture_on_commit_callbacks(execute=True):
        record(
            again,
            tmp_path,
            metrics(2, [(2, 0.4)]),
            sample(tmp_path, 2),
            checkpoint(tmp_path, 2),
            told.Log("info", "x"),
        )
    assert Sample.objects.for_team(lease.team).get() == first
    row = MetricChunk.objects.for_team(lease.team).get()
    assert (row.steps, row.values) == ([1, 2], [0.5, 0.4])
    kept = Checkpoint.objects.for_team(lease.team).get()
    assert (kept.fence, kept.state_key.split("/")[-2]) == (3, "3")
    later = [kind for number, kind, _ in events(job) if number > seq]
    assert later == ["warning", "status", "status", "metrics", "log"]


def test_two_pictures_of_one_prompt_are_two_samples(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    job = _job(lease)
    job.spec["sampling"]["count"] = 2
    job.save(update_fields=["spec"])
    record(lease, tmp_path, sample(tmp_path, 5, seed=42), sample(tmp_path, 5, seed=43))
    rows = Sample.objects.for_team(lease.team).order_by("prompt_index").values_list("prompt_index", "seed")
    assert list(rows) == [(0, 42), (1, 43)]


def test_a_sample_event_names_the_picture_and_no_path(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    record(lease, tmp_path, sample(tmp_path, 0, lora=False))
    row = Sample.objects.for_team(lease.team).select_related("blob").get()
    assert events(_job(lease))[-1][2] == {
        "id": row.uid,
        "step": 0,
        "epoch": 1,
        "prompt_index": 0,
        "prompt": "a cat",
        "seed": 42,
        "width": 64,
        "height": 64,
        "with_lora": False,
    }
    assert storage.read_bytes(storage.blob_key(lease.team.uid, row.blob.sha256)) == png_bytes(
        (64, 64), "0/42"
    )


def test_the_newest_two_states_and_every_export_are_kept(
    running: tuple[Bench, Lease], tmp_path: Path, django_capture_on_commit_callbacks: Callable[..., object]
) -> None:
    _bench, lease = running
    for step in (10, 20, 30):
        with django_capture_on_commit_callbacks(execute=True):
            record(lease, tmp_path, checkpoint(tmp_path, step))
    assert [row.step for row in newest_states(lease.team, lease.job_id)] == [30, 20]
    prefix = storage.run_key(lease.team.uid, lease.job_uid, 1)
    assert not default_storage.exists(f"{prefix}/step-00000010/state.json")
    assert storage.read_bytes(f"{prefix}/step-00000020/state.json") == b"state.json 20"
    rows = Checkpoint.objects.for_team(lease.team).filter(export__isnull=False)
    assert [row.step for row in rows.order_by("step")] == [10, 20, 30]


def test_a_plan_tells_where_a_resumed_run_begins(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    plan = told.Plan(60, 3, 20, 1, 1, "cpu", 1, "fp32", 4, 1000, 24, {"64x64": 24}, 40)
    record(lease, tmp_path, plan)
    assert (_job(lease).step, Attempt.objects.for_team(lease.team).get().first_step) == (40, 40)


def test_a_memory_plan_is_told_in_the_log(running: tuple[Bench, Lease], tmp_path: Path) -> None:
    _bench, lease = running
    record(
        lease,
        tmp_path,
        told.Memory("bf16", "none", "off", "off", 4, "off", 5200, 23000),
        told.Memory("bf16", "int8", "on", "all", 1, "regional", 0, 0),
    )
    told_last = telemetry.events_after(_job(lease), 0, 10)[-2:]
    assert [item["data"]["message"] for item in told_last] == [
        "Memory plan: 4 pictures at once, gradient checkpointing off, about 5200 MB needed of 23000 MB free",
        "Memory plan: one picture at a time, gradient checkpointing all, base model in int8, "
        "base model in the host's memory, compiled blocks",
    ]


def test_events_after_a_number_come_in_order_and_in_pages(
    running: tuple[Bench, Lease], tmp_path: Path
) -> None:
    _bench, lease = running
    record(lease, tmp_path, *(told.Log("info", str(number)) for number in range(5)))
    job = _job(lease)
    page = telemetry.events_after(job, 3, 2)
    assert [(item["seq"], item["type"], item["data"]["message"]) for item in page] == [
        (4, "log", "1"),
        (5, "log", "2"),
    ]
    assert telemetry.events_after(job, job.last_seq) == []


def _job(lease: Lease) -> TrainingJob:
    return TrainingJob.objects.for_team(lease.team).get(pk=lease.job_id)
