"""Hold the engine's process: start it, read what it says, write to it, and end one that does not answer.

What the words and the exit code mean for the job is the supervisor's business (`training.runner`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable

from training.engine.forkserver import Ticket
from training.run_folder import RunFolder
from training.states import Desired
from training.warm import Launched, WarmEngine

BATCH_SECONDS = 0.25
BATCH_BYTES = 64 * 1024
LOG_LINES = 40
CANCEL_GRACE, GRACE, TERM_GRACE = 20.0, 120.0, 10.0

DRAIN = "drain"
# What the engine's exit codes mean (docs/engine-protocol.md); the others count as crashes.
EXIT_DONE, EXIT_INTERRUPTED = 0, 75


class Engine:
    """Hold the child, its pipes and the threads that read them."""

    def __init__(self, ticket: Ticket | Launched, events: int, control: int, output: int) -> None:
        self.pid = ticket.pid
        self.exit_code: int | None = None
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._control = control
        self._lock = threading.Lock()
        self._readers = [
            _thread("events", self._read, events, self._lines.put),
            _thread("log", self._read, output, self._keep_line),
            _thread("waiter", self._wait, ticket),
        ]

    @property
    def ended(self) -> bool:
        """Tell whether the child is gone and everything it said was taken."""
        return not any(reader.is_alive() for reader in self._readers) and self._lines.empty()

    def next_lines(self) -> list[bytes]:
        """Collect the event lines of a quarter of a second, or of less time if there are many."""
        lines: list[bytes] = []
        size, deadline = 0, time.monotonic() + BATCH_SECONDS
        while size < BATCH_BYTES:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            size += len(line)
            lines.append(line)
            if self.ended:
                break
        return lines

    def send(self, kind: str, **fields: object) -> None:
        """Send a control message; an engine that is gone takes none, and no harm is done."""
        line = json.dumps({"type": kind, **fields}).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            if self._control >= 0:
                os.write(self._control, line)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child's process group, unless it has ended."""
        with self._lock:
            if self.exit_code is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, number)

    def close(self) -> None:
        """Close the control pipe, on which a child that still lives ends itself."""
        with self._lock:
            if self._control >= 0:
                os.close(self._control)
                self._control = -1

    def _wait(self, ticket: Ticket | Launched) -> None:
        code = ticket.wait()
        with self._lock:
            self.exit_code = -signal.SIGKILL if code is None else code

    def _keep_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self.log.append(text[:1000])

    @staticmethod
    def _read(fd: int, put: Callable[[bytes], object]) -> None:
        with os.fdopen(fd, "rb") as source:
            for line in source:
                put(line)


class Ladder:
    """Carry a wish to the engine, and grow impatient with one that is not carried out.

    A drain that lasts longer than `drain_seconds` ends in a kill, and `overdue` tells so. The wishes of people end
    in SIGTERM after their grace, and in a kill after that.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.asked = ""
        self.overdue = False
        self._drain_seconds = drain_seconds
        self._asked_at = 0.0
        self._terminated = False

    def ask(self, engine: Engine, wish: str) -> None:
        """Send a new wish, from which the patience is counted anew."""
        self.asked, self._asked_at, self._terminated = wish, time.monotonic(), False
        # To the engine it is all the same for whose sake it makes room.
        engine.send(Desired.PREEMPT if wish == Desired.YIELD else wish)

    def climb(self, engine: Engine) -> None:
        """Send the signal that is due by now, if any."""
        waited = time.monotonic() - self._asked_at
        if not self.asked:
            return
        if self.asked == DRAIN:
            if waited > self._drain_seconds:
                self.overdue = True
                engine.signal(signal.SIGKILL)
            return
        grace = CANCEL_GRACE if self.asked == Desired.CANCEL else GRACE
        if waited > grace + TERM_GRACE:
            engine.signal(signal.SIGKILL)
        elif waited > grace and not self._terminated:
            self._terminated = True
            engine.signal(signal.SIGTERM)


def start(warm: WarmEngine, folder: RunFolder, *, slots: tuple[int, ...] = ()) -> Engine:
    """Fork an engine for one attempt, or start one in as many processes as it has `slots`.

    Raises OSError or RuntimeError if none can be had.
    """
    events_read, events_write = os.pipe()
    control_read, control_write = os.pipe()
    log_read, log_write = os.pipe()
    theirs = (events_write, control_read, log_write)
    try:
        start_one = warm.fork if len(slots) < 2 else functools.partial(warm.launch, slots)
        ticket = start_one(
            spec=folder.spec,
            run_dir=folder.path,
            resume_from=folder.resume_from,
            events_fd=events_write,
            control_fd=control_read,
            log_fd=log_write,
        )
    except BaseException:
        for fd in (events_read, control_write, log_read):
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return Engine(ticket, events_read, control_write, log_read)


def _thread(name: str, run: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=run, args=arguments, name=name, daemon=True)
    thread.start()
    return thread
