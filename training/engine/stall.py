"""Notice that a run which nobody supervises hangs, and say where."""

from __future__ import annotations

import faulthandler
from types import TracebackType
from typing import TextIO

from training.engine.events import Event, EventSink

STALLED = 600.0
"""Seconds without any event; the loop gives a sign of life every ten, whatever it computes (``loop.SIGN_OF_LIFE``)."""


class StallWatch:
    """Pass events on; when none came for ``seconds``, write to ``out`` where every thread is.

    A watcher of the interpreter's own does that, which needs no turn: it also sees a call into a driver that never
    comes back. The run is not ended, for it may yet go on; a worker of the platform ends it (``training.runner``).
    """

    def __init__(self, sink: EventSink, out: TextIO, seconds: float = STALLED) -> None:
        """Watch what goes to ``sink``; ``out`` needs a file descriptor."""
        self._sink, self._out, self._seconds = sink, out, seconds

    def __enter__(self) -> StallWatch:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()

    def emit(self, event: Event) -> None:
        """Pass an event on and wait anew."""
        self._begin()
        self._sink.emit(event)

    def _begin(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, file=self._out)
