"""Learning rate by step, in closed form: a resumed run needs nothing but the step number."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, *, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """Return the share of the full learning rate used at optimizer step ``step`` (0-based).

    Linear warm-up over ``warmup_steps``, then ``constant``, ``linear`` to zero or half a ``cosine``;
    the last step is the last one above zero.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ValueError(f"unknown schedule {schedule!r}")
