"""A run that hangs says where."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from training.engine.events import Log
from training.engine.stall import StallWatch

from .conftest import Recorder


def wait_in_a_driver(path: Path, deadline: float) -> str:
    while time.monotonic() < deadline:
        if "Timeout" in (said := path.read_text()):
            return said
        threading.Event().wait(0.02)
    return path.read_text()


def test_silent_run_says_where_every_thread_is(tmp_path: Path) -> None:
    path, sink = tmp_path / "stderr", Recorder()
    with path.open("w") as out, StallWatch(sink, out, seconds=0.2) as watch:
        watch.emit(Log("info", "alive"))
        said = wait_in_a_driver(path, time.monotonic() + 10)
    assert "Timeout (0:00:00.200000)!" in said
    assert "wait_in_a_driver" in said
    assert [event.type for event in sink.events] == ["log"]


def test_run_that_talks_or_has_ended_is_not_accused(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("w") as out:
        with StallWatch(Recorder(), out, seconds=0.5) as watch:
            begin = time.monotonic()
            while time.monotonic() < begin + 1.0:
                watch.emit(Log("info", "alive"))
        assert wait_in_a_driver(path, time.monotonic() + 0.7) == ""
