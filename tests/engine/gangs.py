"""Runs in several processes, as their supervisor sees them, and the same runs in one."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import psutil

from training.engine.spec import RunSpec


def start(
    spec: RunSpec, run_dir: Path, *, ranks: int = 2, resume_from: Path | None = None, **environment: str
) -> Gang:
    """Start a run in so many processes; 1 is a run without ``torchrun``."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir.with_suffix(".json")
    path.write_text(json.dumps(spec.to_dict()))
    events, events_write = os.pipe()
    control_read, control = os.pipe()
    log = run_dir.with_suffix(".log")
    module = ["training.engine.launch", "--ranks", str(ranks)] if ranks > 1 else ["training.engine.child"]
    command = [sys.executable, "-m", *module, "--spec", str(path), "--run-dir", str(run_dir)]
    command += ["--events-fd", str(events_write), "--control-fd", str(control_read)]
    if resume_from is not None:
        command += ["--resume-from", str(resume_from)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, pass_fds=(events_write, control_read), stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, **environment},
        )  # fmt: skip
    os.close(events_write)
    os.close(control_read)
    return Gang(process, events, control, log)


class Gang:
    """Be a started run."""

    def __init__(self, process: subprocess.Popen[bytes], events: int, control: int, log: Path) -> None:
        self.process, self.log, self._events, self._control = process, log, events, control
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def tell(self, **message: Any) -> None:
        os.write(self._control, json.dumps(message).encode() + b"\n")

    def ranks(self) -> list[psutil.Process]:
        """Return the processes of the run, the leader first."""
        found = psutil.Process(self.process.pid).children()
        return sorted(
            (each for each in found if "RANK" in each.environ()), key=lambda each: int(each.environ()["RANK"])
        )

    def read_until(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 90.0) -> None:
        """Read events until one is wanted."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                self.events.append(json.loads(line))
                if wanted(self.events[-1]):
                    return
            ready, _, _ = select.select([self._events], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._events, 65536) if ready else b""
            if not data:
                raise AssertionError(f"the wanted event never came; log: {self.log.read_text()[-3000:]}")
            self._buffer += data

    def step(self, number: int) -> None:
        """Wait until a step is done."""
        self.read_until(lambda e: e["type"] == "metrics" and e["step"] >= number)

    def wait(self, timeout: float = 90.0) -> int:
        """Read what is left and return the exit code."""
        with contextlib.suppress(AssertionError):
            self.read_until(lambda e: False, timeout)
        return self.process.wait(timeout)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def curve(self, name: str) -> dict[int, float]:
        points = [point for event in self.of("metrics") for point in event["series"].get(name, [])]
        return dict(points)

    def close(self) -> None:
        """End what still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._events)
        os.close(self._control)


def in_ranks(work: Callable[[int], Any], size: int = 2, timeout: float = 60.0) -> list[Any]:
    """Call ``work(rank)`` in so many forks of this process, which find each other as under ``torchrun``.

    Return what they return, in order; what was raised in one is its result. Forks need no imports, so this takes
    seconds; whatever depends on ``torchrun`` itself is tested with `start`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        pids = []
        for rank in range(size):
            pid = os.fork()
            if pid == 0:
                _be_rank(rank, size, port, work, Path(folder) / str(rank))
            pids.append(pid)
        deadline = time.monotonic() + timeout
        left = set(pids)
        while left and time.monotonic() < deadline:
            left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert not left, f"{len(left)} of {size} processes did not end"
        paths = [Path(folder) / str(rank) for rank in range(size)]
        return [pickle.loads(path.read_bytes()) if path.exists() else None for path in paths]


def _be_rank(rank: int, size: int, port: int, work: Callable[[int], Any], path: Path) -> NoReturn:
    try:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo",
        )  # fmt: skip
        try:
            result = work(rank)
        except BaseException as error:
            traceback.print_exc()
            result = error
        path.write_bytes(pickle.dumps(result))
    finally:
        os._exit(0)
