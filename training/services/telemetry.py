"""Store what an engine tells: one fenced transaction for each batch of events.

Files come first (a blob without a row does no harm), then the transaction; browsers are told after the commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from projects.models import Blob
from projects.services.blobs import store_blob
from training.engine import events as told
from training.findings import Findings
from training.models import Attempt, Checkpoint, JobEvent, Sample, TrainingJob
from training.models.telemetry import CHUNK_POINTS
from training.queue.lease import Lease
from training.services.announce import announce_checkpoint
from training.services.caption_results import CaptionResult, store_captions
from training.services.checkpoints import STATES_KEPT, forget_states, store_state
from training.services.curves import write_points
from training.services.lifecycle import append_events, event_item, hold, move
from training.states import JobState

WEIGHTS_TYPE = "application/octet-stream"
EVENTS_PER_PAGE = 500

Told = tuple[told.Event, datetime]


@dataclass
class _Stored:
    """Hold what was put into storage for one event."""

    picture: Blob | None = None
    state_key: str = ""
    export: Blob | None = None


@dataclass
class _Batch:
    """Collect what one transaction writes."""

    rows: list[tuple[str, datetime, dict[str, Any]]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    captions: dict[str, CaptionResult] = field(default_factory=dict)
    points: dict[tuple[str, int], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))


def events_after(job: TrainingJob, after: int, limit: int = EVENTS_PER_PAGE) -> list[dict[str, Any]]:
    """Return up to `limit` events of `job` whose seq is above `after`, in order."""
    rows = JobEvent.objects.for_team(job.team).filter(job=job, seq__gt=after).order_by("seq")
    return [event_item(event) for event in rows[:limit]]


def parse_after(text: str) -> int | None:
    """Return the sequence number that a request gives as text, None if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def record(lease: Lease, run_dir: Path, events: Sequence[Told]) -> str:
    """Store a batch of engine events and return what is wanted of the job; raise LeaseLost for a stale attempt."""
    stored = [_store_files(lease, run_dir, event) for event, _at in events]
    batch = _Batch()
    with transaction.atomic():
        job = hold(lease)
        captions = {event.id: event.text for event, _at in events if isinstance(event, told.Caption)}
        batch.captions = store_captions(job, captions)
        for (event, at), files in zip(events, stored, strict=True):
            _apply(job, event, at, files, batch)
        write_points(job, batch.points)
        append_events(job, batch.rows)
        job.save(update_fields=["last_seq", *sorted(batch.changed)])
        if job.state == JobState.STARTING and any(_is_first_step(event) for event, _at in events):
            move(job, JobState.RUNNING)
    return job.desired


def note(lease: Lease, kind: str, data: dict[str, Any], **gauges: Any) -> None:
    """Append one event of the worker itself, and set the gauges given by name."""
    with transaction.atomic():
        job = hold(lease)
        for name, value in gauges.items():
            setattr(job, name, value)
        append_events(job, [(kind, timezone.now(), data)])
        job.save(update_fields=["last_seq", *gauges])


# -- Files ----------------------------------------------------------------------------------------------------


SAMPLE_TYPES = {".png": "image/png", ".webp": "image/webp"}
"""Of a picture, and of a clip."""


def _store_files(lease: Lease, run_dir: Path, event: told.Event) -> _Stored:
    if isinstance(event, told.Sample):
        picture = store_blob(
            team=lease.team,
            content=(run_dir / event.path).read_bytes(),
            content_type=SAMPLE_TYPES[Path(event.path).suffix],
            width=event.width,
            height=event.height,
        )
        return _Stored(picture=picture)
    if isinstance(event, told.Checkpoint):
        export = None
        if event.export and (run_dir / event.export).exists():
            export = store_blob(team=lease.team, path=run_dir / event.export, content_type=WEIGHTS_TYPE)
        return _Stored(state_key=store_state(lease, run_dir / event.path), export=export)
    return _Stored()


# -- Events ---------------------------------------------------------------------------------------------------


def _is_first_step(event: told.Event) -> bool:
    """Tell whether the work itself begins: a training's first step, a first picture, caption or figure."""
    return isinstance(event, told.Phase) and event.phase in ("train", "draw", "caption", "evaluate")


def _apply(job: TrainingJob, event: told.Event, at: datetime, stored: _Stored, batch: _Batch) -> None:
    """Set the job's gauges from one event, and collect its row for the log."""
    if isinstance(event, told.Phase):
        _set(job, batch, phase=event.phase, phase_done=event.done, phase_total=event.total)
        batch.rows.append(("phase", at, {"phase": event.phase, "done": event.done, "total": event.total}))
    elif isinstance(event, told.Plan):
        _apply_plan(job, event, at, batch)
    elif isinstance(event, told.Memory):
        _apply_memory(event, at, batch)
    elif isinstance(event, told.Metrics):
        _apply_metrics(job, event, at, batch)
    elif isinstance(event, told.Sample):
        _apply_sample(job, event, at, stored, batch)
    elif isinstance(event, told.Caption):
        _apply_caption(job, event, at, batch)
    elif isinstance(event, told.Checkpoint):
        _apply_checkpoint(job, event, at, stored, batch)
    elif isinstance(event, told.Log):
        batch.rows.append(("log", at, {"level": event.level, "message": event.message}))
    elif isinstance(event, told.Warning):
        data = {"code": event.code, "message": event.message, "hint": event.hint, "patch": event.patch}
        batch.rows.append(("warning", at, data))
    elif isinstance(event, told.Evaluation):
        figures = {
            "held_out_loss": event.held_out_loss,
            "style_distance": event.style_distance,
            "content_score": event.content_score,
            "images": event.images,
        }
        _set(job, batch, evaluation=figures)
        batch.rows.append(("evaluation", at, figures))
    elif isinstance(event, told.Finding):
        _apply_finding(job, event, at, batch)
    # `export`, `done`, `interrupted` and `error` decide how the attempt ends: the runner keeps them.


def _set(job: TrainingJob, batch: _Batch, **gauges: Any) -> None:
    for name, value in gauges.items():
        setattr(job, name, value)
        batch.changed.add(name)


def _apply_plan(job: TrainingJob, event: told.Plan, at: datetime, batch: _Batch) -> None:
    _set(job, batch, total_steps=event.total_steps, step=event.resumed_from_step)
    if event.device == "cpu":
        _set(job, batch, threads=event.threads)
    Attempt.objects.for_team(job.team).filter(job=job, fence=job.fence).update(
        first_step=event.resumed_from_step
    )
    resumed = f", resumed from step {event.resumed_from_step}" if event.resumed_from_step else ""
    message = (
        f"{event.images} pictures, {event.total_steps} steps in {event.epochs} epochs, batch {event.batch_size}, "
        f"{event.trainable_parameters} trained parameters, {event.device} ({event.precision}){resumed}"
    )
    plan = {
        "total_steps": event.total_steps,
        "epochs": event.epochs,
        "steps_per_epoch": event.steps_per_epoch,
        "device": event.device,
        "precision": event.precision,
        "threads": event.threads,
        "resumed_from_step": event.resumed_from_step,
    }
    batch.rows.append(("log", at, {"level": "info", "message": message, "plan": plan}))


def _apply_memory(event: told.Memory, at: datetime, batch: _Batch) -> None:
    parts = [f"{event.micro_batch} pictures at once" if event.micro_batch > 1 else "one picture at a time"]
    parts.append(f"gradient checkpointing {event.gradient_checkpointing}")
    if event.quantise != "none":
        parts.append(f"base model in {event.quantise}")
    if event.offload != "off":
        parts.append("base model in the host's memory")
    if event.compile != "off":
        parts.append("compiled blocks")
    if event.needed_mb:
        parts.append(f"about {event.needed_mb} MB needed of {event.free_mb} MB free")
    batch.rows.append(("log", at, {"level": "info", "message": f"Memory plan: {', '.join(parts)}"}))


def _apply_metrics(job: TrainingJob, event: told.Metrics, at: datetime, batch: _Batch) -> None:
    _set(
        job,
        batch,
        step=event.step,
        total_steps=event.total_steps,
        epoch=event.epoch,
        steps_per_second=event.steps_per_second,
        eta_seconds=event.eta_seconds,
    )
    for metric, points in event.series.items():
        for step, value in points:
            if value is None:  # it was not finite
                continue
            batch.points[metric, int(step) // CHUNK_POINTS][int(step)] = float(value)
            if metric == "loss":
                _set(job, batch, loss=float(value))
    batch.rows.append(
        (
            "metrics",
            at,
            {
                "step": event.step,
                "total_steps": event.total_steps,
                "epoch": event.epoch,
                "steps_per_second": event.steps_per_second,
                "eta_seconds": event.eta_seconds,
                "memory_mb": event.memory_mb,
                "series": event.series,
            },
        )
    )


def _apply_sample(job: TrainingJob, event: told.Sample, at: datetime, stored: _Stored, batch: _Batch) -> None:
    place = _place(job, event)
    sample, is_new = Sample.objects.for_team(job.team).get_or_create(
        job=job,
        step=event.step,
        prompt_index=place,
        with_lora=event.lora,
        defaults={
            "team": job.team,
            "blob": stored.picture,
            "epoch": event.epoch,
            "prompt": event.prompt[:500],
            "seed": event.seed,
        },
    )
    if is_new and job.is_short:
        _set(job, batch, step=job.step + 1)
    if is_new:  # else a resumed run drew it again
        batch.rows.append(
            (
                "sample",
                at,
                {
                    "id": sample.uid,
                    "step": event.step,
                    "epoch": event.epoch,
                    "prompt_index": place,
                    "prompt": event.prompt,
                    "seed": event.seed,
                    "width": event.width,
                    "height": event.height,
                    "with_lora": event.lora,
                },
            )
        )


def _apply_caption(job: TrainingJob, event: told.Caption, at: datetime, batch: _Batch) -> None:
    result = batch.captions.pop(event.id, None)
    if result is None:  # told already, or the picture is gone
        return
    _set(job, batch, step=job.step + 1)
    data = {"item": event.id, "outcome": result.outcome.value, "caption": result.caption}
    batch.rows.append(("caption", at, data))


def _apply_finding(job: TrainingJob, event: told.Finding, at: datetime, batch: _Batch) -> None:
    figures = (event.style_distance, event.content_score, event.images)
    found = Findings.from_dict(job.evaluation or {}).with_figures(event.file, *figures)
    _set(job, batch, evaluation=found.to_dict())
    batch.rows.append(
        (
            "finding",
            at,
            {
                "file": event.file,
                "step": event.step,
                "style_distance": event.style_distance,
                "content_score": event.content_score,
                "images": event.images,
            },
        )
    )


def _place(job: TrainingJob, event: told.Sample) -> int:
    """Return the place of a picture among those of its step."""
    if job.is_short:
        return event.prompt_index
    # Several pictures of one prompt differ by their seed; each gets a place of its own.
    sampling = job.spec["sampling"]
    return event.prompt_index * int(sampling["count"]) + event.seed - int(sampling["seed"])


def _apply_checkpoint(
    job: TrainingJob, event: told.Checkpoint, at: datetime, stored: _Stored, batch: _Batch
) -> None:
    checkpoint, is_new = Checkpoint.objects.for_team(job.team).update_or_create(
        job=job,
        step=event.step,
        is_final=False,
        defaults={
            "team": job.team,
            "fence": job.fence,
            "epoch": event.epoch,
            "state_key": stored.state_key,
            "export": stored.export,
        },
    )
    forget_states(job, keep=STATES_KEPT)
    if is_new:
        announce_checkpoint(job, checkpoint)
        batch.rows.append(
            (
                "checkpoint",
                at,
                {
                    "id": checkpoint.uid,
                    "step": event.step,
                    "epoch": event.epoch,
                    "bytes": event.bytes,
                    "export_bytes": event.export_bytes,
                    "has_export": stored.export is not None,
                },
            )
        )
