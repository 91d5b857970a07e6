"""Events on the wire: one line each, short, and the same after reading."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from training.engine import child, hints
from training.engine.events import (
    EVENT_TYPES,
    LINE_LIMIT,
    Error,
    EventWriter,
    Log,
    Metrics,
    Phase,
    from_line,
    to_line,
)
from training.engine.metrics import MetricsLog

from .conftest import Recorder

METRICS = Metrics(1, 10, 1, 2.0, 4.5, 100, {"loss": [(1, 0.5)]})


def test_names_on_the_wire_are_those_of_the_protocol() -> None:
    assert set(EVENT_TYPES) == {
        "phase", "plan", "memory", "metrics", "sample", "caption", "checkpoint", "log", "warning", "evaluation",
        "finding", "export", "done", "interrupted", "error",
    }  # fmt: skip


def test_event_is_the_same_after_a_line() -> None:
    event = Error("out_of_memory", "capacity", "Zu groß", "hint", {"/training/batch_size": 4})
    line = to_line(event)
    assert line.count("\n") == 1
    read, at = from_line(line)
    assert read == event
    assert at.tzinfo is not None


def test_unknown_type_and_unknown_field_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown event type"):
        from_line('{"type":"surprise","at":"2026-01-01T00:00:00Z"}')
    with pytest.raises(ValueError, match="colour"):
        from_line('{"type":"log","at":"2026-01-01T00:00:00Z","level":"info","message":"m","colour":1}')


def test_long_text_is_cut_and_infinite_numbers_become_null() -> None:
    data = json.loads(to_line(Log("info", "x" * 100_000)))
    assert len(data["message"]) == 4000
    assert json.loads(to_line(Metrics(1, 10, 1, 2.0, float("inf"), 1, {})))["eta_seconds"] is None


def test_curves_that_are_too_long_are_told_in_parts(tmp_path: Path) -> None:
    points = [(step, 0.123456789) for step in range(5000)]
    EventWriter(tmp_path / "events.jsonl").emit(
        Metrics(1, 10, 1, 2.0, 4.5, 100, {"loss": points, "lr": points})
    )
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert max(map(len, lines)) < LINE_LIMIT
    told: dict[str, list[int]] = {"loss": [], "lr": []}
    for line in lines:
        for name, part in json.loads(line)["series"].items():
            told[name] += [step for step, _ in part]
    assert told == {"loss": list(range(5000)), "lr": list(range(5000))}


def test_every_event_goes_to_the_file_and_to_the_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    sink = EventWriter(tmp_path / "events.jsonl", writer)
    sink.emit(Phase("train", 1, 2))
    sink.emit(METRICS)
    piped = os.read(reader, 65536)
    assert piped == (tmp_path / "events.jsonl").read_bytes()
    assert piped.count(b"\n") == 2


def test_reader_that_went_away_does_not_stop_the_file(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = EventWriter(tmp_path / "events.jsonl", writer)
    sink.emit(Phase("train", 1, 2))
    sink.emit(Phase("train", 2, 2))
    assert (tmp_path / "events.jsonl").read_text().count("\n") == 2


def test_full_disk_is_told_to_the_pipe_with_its_cause() -> None:
    reader, writer = os.pipe()
    sink = EventWriter(Path("/dev/full"), writer)
    child._tell(sink, hints.explain(OSError(errno.ENOSPC, "No space left on device")))
    os.close(writer)
    log, error = (json.loads(line) for line in os.read(reader, 65536).splitlines())
    assert (log["type"], error["type"], error["code"]) == ("log", "error", "disk_full")


def test_metrics_are_told_at_most_four_times_a_second_and_lose_no_point() -> None:
    now = [0.0]
    sink = Recorder()
    log = MetricsLog(sink, total_steps=100, steps_per_epoch=10, memory_mb=lambda: 7, clock=lambda: now[0])
    for step in range(1, 101):
        now[0] += 0.05
        log.took(0.05)
        log.add("loss", step, float(step))
        log.tell(step)
    log.tell(100, now=True)
    assert len(sink.of("metrics")) <= 5 / 0.25 + 2
    assert sink.curve("loss") == {step: float(step) for step in range(1, 101)}
    last = sink.of("metrics")[-1]
    assert (last.epoch, last.steps_per_second, last.eta_seconds, last.memory_mb) == (10, 20.0, 0.0, 7)
