"""Curves and progress, gathered cheaply and told at most four times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from training.engine.events import EventSink, Metrics

INTERVAL = 0.25


class MetricsLog:
    """Keep points until it is time to tell them; tensors stay on their device until then."""

    def __init__(
        self, sink: EventSink, *, total_steps: int, steps_per_epoch: int, memory_mb: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._sink = sink
        self._total = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._memory_mb = memory_mb
        self._clock = clock
        self._series: dict[str, list[tuple[int, Tensor | float]]] = {}
        self._told = float("-inf")
        self._step_seconds: float | None = None
        self.drawing_seconds = 0.0
        """How long the last drawing of samples took, for the estimate of what is left."""

    def add(self, name: str, step: int, value: Tensor | float) -> None:
        """Add one point of a curve; ``step`` counts finished steps."""
        self._series.setdefault(name, []).append((step, value))

    def took(self, seconds: float) -> None:
        """Tell how long a step took; recent steps weigh more."""
        old = self._step_seconds
        self._step_seconds = seconds if old is None else 0.9 * old + 0.1 * seconds

    def tell(self, step: int, *, drawings_left: int = 0, now: bool = False) -> None:
        """Emit what was gathered, unless it was done a moment ago."""
        moment = self._clock()
        if not self._series or (not now and moment - self._told < INTERVAL):
            return
        self._told = moment
        seconds = self._step_seconds or 0.0
        eta = (self._total - step) * seconds + drawings_left * self.drawing_seconds
        series = {name: [(s, round(float(v), 8)) for s, v in points] for name, points in self._series.items()}
        self._series = {}
        self._sink.emit(Metrics(
            step=step, total_steps=self._total, epoch=-(-step // self._steps_per_epoch),
            steps_per_second=round(1.0 / seconds, 4) if seconds else 0.0, eta_seconds=round(eta, 1),
            memory_mb=self._memory_mb(), series=series,
        ))  # fmt: skip
