"""The events a run tells, as dataclasses and as JSON lines (see docs/engine-protocol.md)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

LINE_LIMIT = 16_000
TEXT_LIMIT = 4_000


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Be the base of all events; ``type`` is the name on the wire."""

    type: ClassVar[str] = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Phase(Event):
    """Tell which part of the run is under way and how far it is."""

    type: ClassVar[str] = "phase"
    phase: str
    done: int
    total: int


@dataclasses.dataclass(frozen=True, slots=True)
class Plan(Event):
    """Tell what will be done, before the first step."""

    type: ClassVar[str] = "plan"
    total_steps: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    gradient_accumulation: int
    device: str
    threads: int
    precision: str
    adapted_modules: int
    trainable_parameters: int
    images: int
    buckets: dict[str, int]
    resumed_from_step: int


@dataclasses.dataclass(frozen=True, slots=True)
class Memory(Event):
    """Tell how the run is computed so that it fits the memory; ``needed_mb`` is 0 where an attempt before decided."""

    type: ClassVar[str] = "memory"
    precision: str
    quantise: str
    offload: str
    gradient_checkpointing: str
    micro_batch: int
    compile: str
    needed_mb: int
    free_mb: int


@dataclasses.dataclass(frozen=True, slots=True)
class Metrics(Event):
    """Tell progress and the points of each curve since the last such event."""

    type: ClassVar[str] = "metrics"
    step: int
    total_steps: int
    epoch: int
    steps_per_second: float
    eta_seconds: float
    memory_mb: int
    series: dict[str, list[tuple[int, float]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample(Event):
    """Tell of a drawn picture; ``lora`` is false when it was drawn with the adapter off."""

    type: ClassVar[str] = "sample"
    step: int
    epoch: int
    prompt_index: int
    prompt: str
    seed: int
    path: str
    width: int
    height: int
    lora: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Caption(Event):
    """Tell the caption that was written for the picture ``id`` of the order."""

    type: ClassVar[str] = "caption"
    id: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint(Event):
    """Tell of a resumable folder (``path``) and the downloadable file made from it (``export``)."""

    type: ClassVar[str] = "checkpoint"
    step: int
    epoch: int
    path: str
    bytes: int
    export: str | None
    export_bytes: int
    export_sha256: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Log(Event):
    """Tell a line for the log panel."""

    type: ClassVar[str] = "log"
    level: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Warning(Event):
    """Tell of something that the run survived, with advice."""

    type: ClassVar[str] = "warning"
    code: str
    message: str
    hint: str | None = None
    patch: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation(Event):
    """Tell three figures with the LoRA off (``base``) and on (``lora``), and how many pictures they rest on."""

    type: ClassVar[str] = "evaluation"
    held_out_loss: dict[str, float] | None
    style_distance: dict[str, float] | None
    content_score: dict[str, float] | None
    images: int


@dataclasses.dataclass(frozen=True, slots=True)
class Finding(Event):
    """Tell the figures of one file of a LoRA; ``file`` is "" for the base model alone."""

    type: ClassVar[str] = "finding"
    file: str
    step: int
    style_distance: float | None
    content_score: float | None
    images: int


@dataclasses.dataclass(frozen=True, slots=True)
class Export(Event):
    """Tell of the finished, verified file."""

    type: ClassVar[str] = "export"
    path: str
    bytes: int
    sha256: str
    keys: int
    format: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Done(Event):
    """Tell the end; ``step`` is smaller than ``total_steps`` after a stop on request."""

    type: ClassVar[str] = "done"
    step: int
    total_steps: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class InterruptedEvent(Event):
    """Tell of an early end that can be resumed from ``checkpoint``."""

    type: ClassVar[str] = "interrupted"
    step: int
    reason: str
    checkpoint: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Error(Event):
    """Tell why the run failed, who can mend it, how, and by which spec changes."""

    type: ClassVar[str] = "error"
    code: str
    category: str
    message: str
    hint: str | None = None
    patch: dict[str, Any] | None = None


EVENT_TYPES: dict[str, type[Event]] = {cls.type: cls for cls in (
    Phase, Plan, Memory, Metrics, Sample, Caption, Checkpoint, Log, Warning, Evaluation, Finding, Export, Done,
    InterruptedEvent, Error,
)}  # fmt: skip


def to_line(event: Event, at: datetime | None = None) -> str:
    """Write an event as one JSON line of less than 16 kB; numbers that are not finite become null."""
    moment = at or datetime.now(UTC)
    data = {"type": event.type, "at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    data.update({f.name: _clean(getattr(event, f.name)) for f in dataclasses.fields(event)})
    line = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(line.encode()) >= LINE_LIMIT:
        raise ValueError(f"a {event.type} event of {len(line)} characters does not fit a line")
    return line + "\n"


def from_line(line: str) -> tuple[Event, datetime]:
    """Read one JSON line; raise ValueError for a type or a field that the protocol does not know."""
    data = json.loads(line)
    at = datetime.fromisoformat(data.pop("at"))
    cls = EVENT_TYPES.get(data.pop("type"))
    if cls is None:
        raise ValueError("unknown event type")
    try:
        return cls(**data), at
    except TypeError as error:
        raise ValueError(str(error)) from error


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= TEXT_LIMIT else value[: TEXT_LIMIT - 1] + "…"
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return value


class EventSink(Protocol):
    """Take events, wherever they go."""

    def emit(self, event: Event) -> None:
        """Deliver one event."""


class EventWriter:
    """Append every event to ``events.jsonl`` and, when given one, write it to a file descriptor too.

    A reader that went away is no reason to stop: the file has everything.
    """

    def __init__(self, path: Path, fd: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._fd = fd
        self._lock = threading.Lock()
        self.started = False
        """Whether anything was told yet."""

    def emit(self, event: Event) -> None:
        """Write one event; a metrics event that is too long is split."""
        for part in _parts(event):
            line = to_line(part).encode()
            with self._lock:
                self.started = True
                try:
                    os.write(self._file, line)
                finally:  # that the disk is full must be told all the same
                    self._pipe(line)

    def _pipe(self, line: bytes) -> None:
        if self._fd is not None:
            try:
                _write_all(self._fd, line)
            except BrokenPipeError:
                self._fd = None

    def emit_last(self, event: Event, patience: float = 0.2) -> None:
        """Write an event to the file only, for a thread that is about to end the process."""
        if self._lock.acquire(timeout=patience):
            try:
                os.write(self._file, to_line(event).encode())
            finally:
                self._lock.release()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _parts(event: Event) -> list[Event]:
    """Split the curves of a metrics event so that each part fits a line."""
    if not isinstance(event, Metrics) or sum(map(len, event.series.values())) <= 200:
        return [event]
    parts: list[Event] = []
    for name, points in event.series.items():
        for start in range(0, len(points), 200):
            parts.append(dataclasses.replace(event, series={name: points[start : start + 200]}))
    return parts
