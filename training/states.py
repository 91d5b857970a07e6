"""The states of a training job and the only moves between them. Pure: no Django models, no database."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class JobState(models.TextChoices):
    QUEUED = "queued", _("Waiting")
    STARTING = "starting", _("Starting")
    RUNNING = "running", _("Training")
    STOPPING = "stopping", _("Stopping")
    FINALIZING = "finalizing", _("Finishing")
    PAUSED = "paused", _("Paused")
    SUCCEEDED = "succeeded", _("Done")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")
    STOPPED = "stopped", _("Stopped and kept")


class Desired(models.TextChoices):
    """What somebody wants of a live job; the worker delivers it. Stronger wishes replace weaker ones."""

    CANCEL = "cancel", _("Cancel")
    STOP = "stop", _("Stop and keep")
    PAUSE = "pause", _("Pause")
    PREEMPT = "preempt", _("Make room")
    YIELD = "yield", _("Let short work pass")


class WaitsFor(models.TextChoices):
    """Why a job does not run yet."""

    WORKER = "worker", _("No worker is running.")
    GPU = "gpu", _("No worker has a GPU that is large enough.")
    LIMIT = "limit", _("The team runs as many trainings at once as it may.")
    TIME = "time", _("It was interrupted and is tried again in a moment.")
    TURN = "turn", _("Others are before it.")
    NOTHING = "nothing", _("A worker is free.")


class Simulated(models.TextChoices):
    """How a simulated training ends (test keys); chosen by whoever asks for it."""

    SUCCESS = "success", _("Success")
    OUT_OF_MEMORY = "out_of_memory", _("Out of memory")
    DIVERGED = "diverged", _("Diverged")
    PREEMPTED = "preempted", _("Preempted, then success")


class RestReason(models.TextChoices):
    """Why a job rests that nobody told to; the values are the codes of the errors behind them."""

    CREDITS = "insufficient_credits", _("The team's GPU time is used up.")
    SPEND_LIMIT = "spend_limit_reached", _("The team's spend limit is reached.")
    HARD_CAP = "hard_cap_reached", _("The cap of this training is reached.")


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.STOPPED})
# A worker holds a lease on these.
LIVE = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING, JobState.FINALIZING})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.PAUSED, JobState.CANCELED}),
    JobState.STARTING: frozenset(
        {JobState.RUNNING, JobState.STOPPING, JobState.QUEUED, JobState.FAILED, JobState.CANCELED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.STOPPING, JobState.FINALIZING, JobState.QUEUED, JobState.FAILED, JobState.CANCELED}
    ),
    JobState.STOPPING: frozenset(
        {
            JobState.PAUSED,
            JobState.QUEUED,
            JobState.CANCELED,
            JobState.STOPPED,
            JobState.FINALIZING,
            JobState.FAILED,
        }
    ),
    JobState.FINALIZING: frozenset(
        {JobState.SUCCEEDED, JobState.STOPPED, JobState.QUEUED, JobState.FAILED, JobState.CANCELED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
    JobState.STOPPED: frozenset(),
}


def is_allowed(source: JobState, target: JobState) -> bool:
    """Tell whether a job may move from `source` to `target`."""
    return target in TRANSITIONS[source]


def is_terminal(state: str) -> bool:
    """Tell whether `state` is final."""
    return state in TERMINAL
