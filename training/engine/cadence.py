"""After which steps a run draws samples and saves: a pure function of the step number."""

from __future__ import annotations

from training.engine.spec import StepPlan

TIMES_PER_RUN = 10


def is_due(step: int, plan: StepPlan, every_steps: int | None, every_epochs: int | None) -> bool:
    """Tell whether something is due when ``step`` steps are finished; it always is at the end.

    Without a cadence it is the end of an epoch, about ten times a run, so that tiny sets (an epoch of three steps)
    do not draw all day.
    """
    if step <= 0:
        return False
    if step >= plan.total_steps:
        return True
    if every_steps is not None:
        return step % every_steps == 0
    epochs = every_epochs if every_epochs is not None else max(1, plan.epochs // TIMES_PER_RUN)
    return step % (epochs * plan.steps_per_epoch) == 0


def times_left(step: int, plan: StepPlan, every_steps: int | None, every_epochs: int | None) -> int:
    """Count how often it will still be due after ``step``."""
    if step >= plan.total_steps:
        return 0
    if every_steps is not None:
        interval = every_steps
    else:
        epochs = every_epochs if every_epochs is not None else max(1, plan.epochs // TIMES_PER_RUN)
        interval = epochs * plan.steps_per_epoch
    return -(-plan.total_steps // interval) - step // interval
