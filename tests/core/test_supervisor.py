"""The supervisor, with real processes: what dies comes back, what is told to stop leaves nothing behind."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from core.processes import Launch, wait_until
from core.supervisor import Program, Supervisor


@pytest.fixture
def console() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(tmp_path: Path, console: io.StringIO) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "log", console=console, colours=False)
    yield supervisor
    supervisor.stop()


def program(name: str, code: str, tmp_path: Path, **options: float) -> Program:
    command = [sys.executable, "-S", "-u", "-c", code]
    return Program(name, launch=lambda: Launch(command=command, cwd=tmp_path), **options)  # type: ignore[arg-type]


def until(supervisor: Supervisor, condition: Callable[[], bool]) -> bool:
    def revived() -> bool:
        supervisor.revive()
        return condition()

    return wait_until(revived, timeout=30)


SLEEP = "import time; print('up'); time.sleep(600)"


def test_a_killed_program_runs_again_with_another_process(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program("web", SLEEP, tmp_path))
    first = supervisor.pids()["web"]
    os.kill(first, signal.SIGKILL)
    assert until(supervisor, lambda: supervisor.pids().get("web", first) != first)


def test_the_pause_before_a_restart_grows_with_deaths_in_a_row(
    supervisor: Supervisor, tmp_path: Path, console: io.StringIO
) -> None:
    supervisor.start(program("broken", "raise SystemExit(3)", tmp_path))
    assert until(supervisor, lambda: console.getvalue().count("ended with status 3") >= 3)
    pauses = [line.rsplit(" in ", 1)[1] for line in console.getvalue().splitlines() if "starts again" in line]
    assert pauses[:3] == ["0.2 s", "0.6 s", "1.8 s"]


def test_output_is_prefixed_on_the_console_and_plain_in_the_log(
    supervisor: Supervisor, tmp_path: Path, console: io.StringIO
) -> None:
    supervisor.start(
        program("tick", "import sys; print('one'); print('两', file=sys.stderr); " + SLEEP, tmp_path)
    )
    assert wait_until(lambda: "up" in console.getvalue(), timeout=30)
    assert console.getvalue().splitlines() == ["tick       | one", "tick       | 两", "tick       | up"]
    assert (tmp_path / "log" / "tick.log").read_text() == "one\n两\nup\n"


def test_a_program_that_ignores_the_request_to_stop_is_killed_after_its_grace(
    supervisor: Supervisor, tmp_path: Path, console: io.StringIO
) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    supervisor.start(program("stubborn", code, tmp_path, grace=0.5))
    assert wait_until(lambda: "up" in console.getvalue(), timeout=30)
    pid = supervisor.pids()["stubborn"]
    began = time.monotonic()
    supervisor.stop()
    assert not psutil.pid_exists(pid)
    assert 0.5 <= time.monotonic() - began < 5


def test_stopping_ends_grandchildren_that_left_the_process_group(
    supervisor: Supervisor, tmp_path: Path, console: io.StringIO
) -> None:
    code = (
        "import subprocess, sys, time;"
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
        "print(c.pid); time.sleep(600)"
    )
    supervisor.start(program("parent", code, tmp_path))
    assert wait_until(lambda: "\n" in console.getvalue(), timeout=30)
    grandchild = psutil.Process(int(console.getvalue().split("|")[1]))
    supervisor.stop()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_a_start_that_fails_is_tried_again_and_stops_nobody_else(
    supervisor: Supervisor, tmp_path: Path, console: io.StringIO
) -> None:
    attempts: list[int] = []

    def refuse_once() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("the folder is busy")

    late = program("late", SLEEP, tmp_path)
    late.before = refuse_once
    supervisor.start(program("other", SLEEP, tmp_path))
    other = supervisor.pids()["other"]
    supervisor.start(late)
    assert until(supervisor, lambda: "late" in supervisor.pids())
    assert "could not start: the folder is busy" in console.getvalue()
    assert supervisor.pids()["other"] == other


def test_waiting_names_the_programs_that_never_became_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    never = program("never", SLEEP, tmp_path)
    never.is_ready = lambda: False
    supervisor.start(program("ready", SLEEP, tmp_path))
    supervisor.start(never)
    assert supervisor.wait_ready(["ready", "never"], timeout=1) == ["never"]
