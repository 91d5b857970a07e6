"""Keep a set of programs running: show their output with a prefix, start again what dies, stop all of them cleanly."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TextIO

import psutil

from core.processes import Launch, end_leftovers, is_running, kill_group, spawn, stop

COLOURS = ("36", "32", "35", "33", "34", "96", "92", "95")
LONG_ENOUGH = 30.0  # seconds a program must live for its earlier deaths to be forgotten
LONGEST_PAUSE = 15.0
LARGEST_LOG = 10 * 1024**2


@dataclass
class Program:
    """Describe one program to keep running.

    `launch` is asked again at every start; `before` clears up after a death (and may raise to have it tried later);
    `is_ready` tells whether the program does its work; `grace` is how long it may take to stop, in seconds.
    """

    name: str
    launch: Callable[[], Launch]
    before: Callable[[], None] = lambda: None
    is_ready: Callable[[], bool] = lambda: True
    grace: float = 8.0


@dataclass
class _State:
    program: Program
    colour: str
    process: subprocess.Popen[bytes] | None = None
    launched: Launch | None = None
    started: float = 0.0
    deaths: int = 0
    start_again: float | None = None
    log: IO[bytes] | None = field(default=None, repr=False)


class Supervisor:
    """Run programs from one thread, which must outlive them (see `core.processes.spawn`)."""

    def __init__(
        self, log_folder: Path, *, console: TextIO | None = None, colours: bool | None = None
    ) -> None:
        self.log_folder = log_folder
        self.console = console or sys.stdout
        self.colours = self.console.isatty() if colours is None else colours
        self.stopping = threading.Event()
        self._states: dict[str, _State] = {}
        self._write_lock = threading.Lock()

    # -- What the owner calls -----------------------------------------------------------------------------------

    def start(self, program: Program) -> None:
        """Start a program and keep it running from now on."""
        state = _State(program, COLOURS[len(self._states) % len(COLOURS)])
        self._states[program.name] = state
        self._launch(state)

    def wait_ready(self, names: Iterable[str], *, timeout: float) -> list[str]:
        """Wait until the named programs are ready, reviving what dies meanwhile; return those that are not."""
        waiting = list(names)
        deadline = time.monotonic() + timeout
        while waiting and time.monotonic() < deadline and not self.stopping.is_set():
            self.revive()
            waiting = [name for name in waiting if not self._is_ready(name)]
            if waiting:
                self.stopping.wait(0.1)
        return waiting

    def run(self) -> None:
        """Revive what dies until `stopping` is set."""
        while not self.stopping.is_set():
            self.revive()
            self.stopping.wait(0.2)

    def revive(self) -> None:
        """Notice the dead and start them again, each after a pause that grows with its deaths in a row."""
        now = time.monotonic()
        for state in self._states.values():
            if state.process is not None and state.process.poll() is not None:
                self._bury(state, now)
            if state.start_again is not None and now >= state.start_again:
                self._launch(state)

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Stop the named programs (all by default) side by side, with whatever they started."""
        chosen = [self._states.pop(name) for name in list(names or self._states) if name in self._states]
        stoppers = [threading.Thread(target=self._stop_one, args=[state]) for state in chosen]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()

    def say(self, text: str) -> None:
        """Print a line of our own between the programs' lines."""
        self._print(text)

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs now, by name."""
        return {
            name: s.process.pid for name, s in self._states.items() if s.process and s.process.poll() is None
        }

    # -- One program --------------------------------------------------------------------------------------------

    def _launch(self, state: _State) -> None:
        state.start_again = None
        try:
            state.program.before()
            state.launched = state.program.launch()
            state.process = spawn(state.launched, output=subprocess.PIPE)
        except Exception as error:  # a start that fails is one more death: the others must go on
            self._line(state, f"could not start: {error}")
            self._schedule(state, time.monotonic())
            return
        state.started = time.monotonic()
        assert state.process.stdout is not None
        state.log = self._open_log(state.program.name)
        pump = threading.Thread(target=self._pump, args=[state, state.process.stdout, state.log], daemon=True)
        pump.start()

    def _bury(self, state: _State, now: float) -> None:
        assert state.process is not None
        status = state.process.returncode
        kill_group(state.process)
        state.process = None
        if now - state.started > LONG_ENOUGH:
            state.deaths = 0
        pause = self._schedule(state, now)
        cause = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        self._line(state, f"{cause}; starts again in {pause:.1f} s")

    def _schedule(self, state: _State, now: float) -> float:
        pause: float = min(LONGEST_PAUSE, 0.2 * 3**state.deaths)
        state.deaths += 1
        state.start_again = now + pause
        return pause

    def _is_ready(self, name: str) -> bool:
        state = self._states[name]
        return state.process is not None and state.process.poll() is None and state.program.is_ready()

    def _stop_one(self, state: _State) -> None:
        process, launched = state.process, state.launched
        if process is None or launched is None:
            return
        descendants: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            descendants = psutil.Process(process.pid).children(recursive=True)
        stop(process, by=launched.stop_signal, grace=state.program.grace)
        left = [child for child in descendants if is_running(child)]
        if left:
            end_leftovers(left, by=launched.stop_signal, grace=2)

    # -- Output -------------------------------------------------------------------------------------------------

    def _pump(self, state: _State, source: IO[bytes], log: IO[bytes]) -> None:
        with source, log:
            for raw in source:
                log.write(raw)
                log.flush()
                self._line(state, raw.decode(errors="replace").rstrip("\r\n"))

    def _open_log(self, name: str) -> IO[bytes]:
        self.log_folder.mkdir(parents=True, exist_ok=True)
        path = self.log_folder / f"{name}.log"
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _line(self, state: _State, text: str) -> None:
        prefix = f"{state.program.name:<10} | "
        self._print((f"\033[{state.colour}m{prefix}\033[0m" if self.colours else prefix) + text)

    def _print(self, text: str) -> None:
        # A closed console (`make up | head`) is no reason to stop the programs.
        with self._write_lock, contextlib.suppress(OSError, ValueError):
            self.console.write(text + "\n")
            self.console.flush()
