"""The ready engine as the worker holds it: one that does not answer is ended, and the attempt fails cleanly."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from core.processes import wait_until
from tests.scenario import Scenario
from tests.training.queueing import Bench, events, fresh
from training import warm
from training.runner import Runner
from training.states import JobState
from training.warm import WarmEngine


class Deaf:
    """Be a server that listens and never answers, and count how often it was started."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.resident_mb: list[int] = []
        self._sockets: list[socket.socket] = []

    def start(self, path: Path, *, resident_mb: int, **_options: Any) -> subprocess.Popen[bytes]:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self._sockets.append(listener)
        self.resident_mb.append(resident_mb)
        self.processes.append(subprocess.Popen(["sleep", "600"]))
        return self.processes[-1]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for listener in self._sockets:
            listener.close()


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    server = Deaf()
    monkeypatch.setattr(warm, "start_server", server.start)
    yield server
    server.close()


@pytest.fixture
def engine(deaf: Deaf) -> Iterator[WarmEngine]:
    engine = WarmEngine(patience=0.2)
    assert not engine.ensure()
    assert engine.ensure()
    yield engine
    engine.stop()


def test_ready_engine_may_keep_as_much_as_the_setting_says(engine: WarmEngine, deaf: Deaf) -> None:
    assert deaf.resident_mb == [settings.RESIDENT_BASE_MB]
    assert settings.RESIDENT_BASE_MB > 0


@pytest.mark.django_db(transaction=True)
def test_attempt_ends_when_the_ready_engine_does_not_answer_and_another_is_started(
    scenario: Scenario, engine: WarmEngine, deaf: Deaf
) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    runner = Runner(bench.claim(), engine, threading.Event())
    runner.run()
    assert runner.crash == "engine_not_ready"
    assert fresh(job).state == JobState.QUEUED
    assert "did not answer within 0.2 s" in str(events(job))
    assert deaf.processes[0].poll() is not None
    assert not engine.ensure()  # it sees the end, and waits a second
    wait_until(lambda: engine.ensure(), timeout=10)
    assert len(deaf.processes) == 2
    assert deaf.processes[1].poll() is None
