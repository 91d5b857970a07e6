"""Tell how far a phase has come, as events, and let a request end it."""

from __future__ import annotations

import time
from collections.abc import Callable

from training.engine.control import Control
from training.engine.events import EventSink, Phase

Progress = Callable[[int, int], None]
"""Takes (done, total); whoever works calls it between any two parts of the work, and lets what it raises pass."""


def untold(done: int, total: int) -> None:
    """Tell nobody: for work whose progress nobody asks for."""


class ProgressTeller:
    """Tell progress of a phase at most once in ``interval`` seconds, and let a request end the phase."""

    def __init__(
        self, sink: EventSink, control: Control, phase: str, done: int = 0, total: int = 0, *,
        interval: float = 0.1,
    ) -> None:  # fmt: skip
        self._sink, self._control, self._phase, self._interval = sink, control, phase, interval
        self._tell(done, total)

    def __call__(self, done: int, total: int) -> None:
        """Tell, and raise Interrupted if asked to end."""
        self._control.check()
        self.note(done, total)

    def note(self, done: int, total: int) -> None:
        """Tell, where no request may end the work: others do their parts of it."""
        if time.monotonic() - self._told_at >= self._interval:
            self._tell(done, total)

    def finish(self, total: int) -> None:
        """Tell that all is there, computed now or found in the cache."""
        if self._told != (total, total):
            self._tell(total, total)

    def _tell(self, done: int, total: int) -> None:
        self._told, self._told_at = (done, total), time.monotonic()
        self._sink.emit(Phase(self._phase, done, total))
