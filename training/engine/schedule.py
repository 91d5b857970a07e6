"""Learning rate by step, in closed form: a resumed run needs nothing but the step number."""

from __future__ import annotations

import math

SCHEDULES = ("constant", "cosine", "cosine-restarts", "linear", "polynomial", "one-cycle")
# A one-cycle schedule begins at this share of the full rate (Smith and Topin 2018 began at a tenth to a thirtieth), and
# rises over this share of the steps where the warm-up is left to it.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_RISE = 0.3


def learning_rate_factor(
    step: int, *, total_steps: int, warmup_steps: int, schedule: str, restarts: int = 0, power: float = 1.0
) -> float:
    """Return the share of the full learning rate used at optimizer step ``step`` (0-based).

    Linear warm-up over ``warmup_steps``, then ``constant``, ``linear`` to zero, ``polynomial`` (the linear fall to
    ``power``), half a ``cosine``, or ``cosine-restarts``: that many times back to the full rate. ``one-cycle`` rises by
    half a cosine over the warm-up, and falls by another one. The last step is the last one above zero.
    """
    if schedule == "one-cycle":
        rise = warmup_steps or round(ONE_CYCLE_RISE * total_steps)
        if step < rise:
            return 1.0 - (1.0 - ONE_CYCLE_START) * _half_cosine(step / rise)
        return _half_cosine((step - rise) / max(1, total_steps - rise))
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done, length = step - warmup_steps, max(1, total_steps - warmup_steps)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - done / length
    if schedule == "polynomial":
        return math.pow(1.0 - done / length, power)
    if schedule == "cosine":
        return _half_cosine(done / length)
    if schedule == "cosine-restarts":
        # In whole numbers: a restart that rounding puts a step late would begin at zero.
        return _half_cosine(done * (restarts + 1) % length / length)
    raise ValueError(f"unknown schedule {schedule!r}")


def _half_cosine(progress: float) -> float:
    """Fall from 1 to 0 while ``progress`` goes from 0 to 1."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))
