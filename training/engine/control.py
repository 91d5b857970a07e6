"""Requests to a running engine: lines on a pipe, signals, and the dead-man's switch.

The loop asks ``take`` at every optimizer step. The switch does not wait for the loop: a supervisor that froze or
died must never let a second engine start while this one still writes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from training.engine.errors import ExitCode, Interrupted

# Strongest first: what is answered when several requests are waiting.
REQUESTS = ("cancel", "sigterm", "preempt", "drain", "pause", "stop", "checkpoint")
INTERRUPTING = frozenset({"cancel", "sigterm", "preempt", "drain", "pause"})


class Control:
    """Collect requests; usable without any pipe (a run from the command line)."""

    def __init__(self, *, before_exit: Callable[[str], None] = lambda reason: None) -> None:
        """Call ``before_exit(reason)`` when the dead-man's switch ends the process."""
        self._pending: set[str] = set()
        self._lock = threading.Lock()
        self._before_exit = before_exit
        self._deadline: float | None = None

    # -- asked by the run -----------------------------------------------------------------------------------------

    def take(self) -> str | None:
        """Return and clear the strongest waiting request; an interrupting one stays until the end."""
        self._wait_for_lease()
        with self._lock:
            for request in REQUESTS:
                if request in self._pending:
                    if request not in INTERRUPTING:
                        self._pending.discard(request)
                    return request
        return None

    def check(self) -> None:
        """Raise Interrupted if the run shall end; for the phases before the first step."""
        self._wait_for_lease()
        with self._lock:
            for request in REQUESTS:
                if request in self._pending and request in INTERRUPTING:
                    raise Interrupted(request)

    def _wait_for_lease(self) -> None:
        """Go no further on a lease that has ended: the reading thread gets a newer one, or ends the process.

        A process that was frozen wakes up with all its threads at once; the run must not be the first.
        """
        while self._deadline is not None and time.monotonic() >= self._deadline:
            time.sleep(0.01)

    # -- told by others -------------------------------------------------------------------------------------------

    def request(self, name: str) -> None:
        """Put a request in the queue; unknown names are ignored, so that a newer supervisor does no harm."""
        if name in REQUESTS:
            with self._lock:
                self._pending.add(name)

    def catch_signals(self) -> None:
        """Turn SIGTERM and SIGINT into a request; the second one ends the process at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            # No lock here: the main thread may hold it at this very moment. set.add is atomic under the GIL.
            if "sigterm" in self._pending:
                os._exit(ExitCode.INTERRUPTED)
            self._pending.add("sigterm")

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)

    def listen(self, fd: int) -> None:
        """Read request lines from a descriptor in a thread, and watch the lease."""
        threading.Thread(target=self._read, args=(fd,), name="control", daemon=True).start()

    def _read(self, fd: int) -> None:
        buffer = b""
        while True:
            wait = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            ready, _, _ = select.select([fd], [], [], wait)
            if not ready:
                self._end("lease_lost")
            data = os.read(fd, 65536)
            if not data:
                if self._deadline is not None:
                    self._end("control_closed")
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            kind = message["type"]
            if kind == "lease":
                # A line may have lain in the pipe while this process was frozen: the sender's own count goes first.
                ends = time.monotonic() + float(message["ttl"])
                self._deadline = min(ends, float(message.get("until", ends)))
            else:
                self.request(str(kind))
        except (ValueError, KeyError, TypeError):
            return

    def _end(self, reason: str) -> None:
        try:
            self._before_exit(reason)
        finally:
            os._exit(ExitCode.INTERRUPTED)
