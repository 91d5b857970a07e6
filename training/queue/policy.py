"""In which order waiting jobs start. Pure: the claim says the same in SQL, and a test holds the two together.

score = queued at - 4 h for who pays for express - the plan's head start - 6 h for short work
        + min(4 h, 600 s x the team's GPU hours of late / the plan's weight)
        + 900 s x the team's running jobs of this sort / the plan's weight
        + 600 s on a GPU that is larger than the job needs

Short work (pictures to draw, captions) and trainings are two lines with a limit each, so that neither waits for the
other's: what takes a minute is not to stand behind what takes hours. The lower starts sooner, and of two that are
equal the older. Waiting longer is the only way forward that nobody can take away, so nobody starves: a job is
overtaken at most by what is queued within `overtaken_for` after it (on several GPUs, `may_take` says how long a
machine waits for it). The values of plans are read at this moment: a
changed plan acts on jobs that wait already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NO_LIMIT = 2**31 - 1
# Memory of a GPU in GB, as it is sold. 0: a processor will do.
GPU_CLASSES = (0, 4, 6, 8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192)
# Drivers tell less than what is printed on the card (a T4 of 16 GB tells 15 360 MiB, an L4 of 24 GB 23 034).
_TOLD = 0.9
_USABLE = 0.94


@dataclass(frozen=True, slots=True)
class Rules:
    """Hold the constants of the order and of preemption; seconds where nothing else is said.

    They were chosen with `bench.queue_sim` (docs/queue.md has its table); the installation's are in `QueueSettings`.
    """

    half_life: float = 7 * 86_400.0
    per_gpu_hour: float = 600.0
    longest_for_use: float = 4 * 3_600.0
    per_running_job: float = 900.0
    misfit: float = 600.0
    short_boost: float = 6 * 3_600.0
    preempt_after: float = 120.0
    preempt_if_free_within: float = 180.0
    least_run: float = 900.0
    least_left: float = 600.0
    most_preemptions_a_day: int = 3
    reserved_for: float = 180.0
    short_waits: float = 15.0
    short_if_free_within: float = 45.0
    least_run_for_short: float = 120.0
    express_boost: float = 4 * 3_600.0
    express_rate: float = 1.5
    hold_for: float = 7_200.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold how a team stands: its plan's values, its jobs that run, its GPU seconds of late (`decayed`).

    `limit` is how many trainings may run at once, and how much short work beside them.
    """

    boost: float = 0.0
    weight: int = 1
    limit: int = NO_LIMIT
    running: int = 0
    short_running: int = 0
    used: float = 0.0

    def at_once(self, is_short: bool) -> int:
        """Return how many jobs of this sort run."""
        return self.short_running if is_short else self.running

    def is_full(self, is_short: bool) -> bool:
        """Tell whether no other job of this sort may start."""
        return self.at_once(is_short) >= self.limit


def score(
    rules: Rules, standing: Standing, *, queued_at: float, gpu_gb: int = 0, slot_gb: int | None = None,
    is_short: bool = False,
) -> float:  # fmt: skip
    """Return the score of a job queued at `queued_at` (unix seconds, less what express gives it) that needs `gpu_gb`.

    Without `slot_gb` as it is on a slot that fits.
    """
    for_use = min(rules.longest_for_use, rules.per_gpu_hour * standing.used / 3600 / standing.weight)
    running = rules.per_running_job * standing.at_once(is_short) / standing.weight
    misfit = rules.misfit if slot_gb is not None and gpu_gb < slot_gb else 0.0
    head_start = standing.boost + (rules.short_boost if is_short else 0.0)
    return queued_at - head_start + for_use + running + misfit


@dataclass(frozen=True, slots=True)
class Room:
    """Hold what a machine has for a job on several GPUs, by the class that it needs.

    `free`: the slot that asks and those that could be lent to it now; `slots`: those and the busy ones.
    """

    node: str
    free: Mapping[int, int]
    slots: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Held:
    """Say since when (unix seconds, None: never) which machine holds slots back for a job."""

    since: float | None = None
    node: str = ""


def is_startable(room: Room, *, gpus: int, gpu_gb: int) -> bool:
    """Tell whether a machine has the slots that a job needs, now."""
    return gpus <= room.free.get(gpu_gb, 1)


def may_take(rules: Rules, room: Room, held: Held, *, gpus: int, gpu_gb: int, now: float) -> bool:
    """Tell whether a slot may be given to a job, or wait for it.

    A job that needs more slots than are free has them wait, as they become free and while it is the best for them:
    on one machine, for `rules.hold_for` seconds. For as long after that they take others, and then it begins anew.
    """
    if is_startable(room, gpus=gpus, gpu_gb=gpu_gb):
        return True
    if gpus > room.slots.get(gpu_gb, 1):
        return False
    if held.since is None or now - held.since >= 2 * rules.hold_for:
        return True
    return held.node == room.node and now - held.since < rules.hold_for


def decayed(rules: Rules, seconds: float, age: float) -> float:
    """Return what GPU seconds used `age` seconds ago still count: half after each half-life."""
    return float(seconds * 0.5 ** (age / rules.half_life))


def overtaken_for(
    rules: Rules, *, largest_boost: float, running: int, weight: int, by_short: bool = False
) -> float:
    """Return the seconds after which no job of its sort that is queued can start before one that waits already.

    While its team stays within its limit; `running` and `weight` are its own. `by_short`: no short work before a
    training. Express jobs among the others count as queued earlier.
    """
    head_start = largest_boost + (rules.short_boost if by_short else 0.0)
    return head_start + rules.longest_for_use + rules.per_running_job * running / weight + rules.misfit


def class_of_need(memory_mb: int) -> int:
    """Return the class of the smallest GPU on which a job of `memory_mb` runs; 0 where the need is not known."""
    if not memory_mb:
        return 0
    return next((gb for gb in GPU_CLASSES if memory_mb <= gb * 1024 * _USABLE), GPU_CLASSES[-1])


def class_of_gpu(memory_mb: int) -> int:
    """Return the class of a GPU that tells `memory_mb`; 0 for a processor."""
    return max(gb for gb in GPU_CLASSES if gb * 1024 * _TOLD <= memory_mb)
