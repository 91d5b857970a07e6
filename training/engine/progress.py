"""Tell how far a phase has come, as events, and let a request end it."""

from __future__ import annotations

import time

from training.engine.control import Control
from training.engine.events import EventSink, Phase


class ProgressTeller:
    """Tell progress of a phase at most ten times a second, and let a request end the phase."""

    def __init__(self, sink: EventSink, control: Control, phase: str) -> None:
        self._sink, self._control, self._phase = sink, control, phase
        self._told = float("-inf")
        sink.emit(Phase(phase, 0, 0))

    def __call__(self, done: int, total: int) -> None:
        """Tell, and raise Interrupted if asked to end."""
        self._control.check()
        now = time.monotonic()
        if now - self._told >= 0.1 and done < total:
            self._told = now
            self._sink.emit(Phase(self._phase, done, total))

    def finish(self, total: int) -> None:
        """Tell that all is there, computed now or found in the cache."""
        self._sink.emit(Phase(self._phase, total, total))
