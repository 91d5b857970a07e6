"""The queue in memory: what the claim does in SQL, for whole simulations of it. Pure.

The forecast fills a board with what waits and plays it forward; `bench.queue_sim` plays months on it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from training.queue.policy import Rules, Standing, decayed, score


@dataclass(frozen=True, slots=True)
class Waiting:
    """Hold a job that waits: when it was queued (unix seconds), the GPU it needs, how long it takes (seconds)."""

    id: int
    team: int
    queued_at: float
    seconds: float
    gpu_gb: int = 0
    not_before: float = 0.0
    is_short: bool = False
    gpus: int = 1


@dataclass(slots=True)
class _Line:
    """Hold one team's jobs of one sort, class and number of GPUs, in the order they are queued."""

    jobs: list[tuple[float, int]] = field(default_factory=list)


class Board:
    """Keep waiting jobs in order. All calls cost a logarithm of the number of jobs, whatever the number of teams."""

    def __init__(self, rules: Rules, standings: Mapping[int, Standing], *, now: float = 0.0) -> None:
        self.rules = rules
        self._standings = dict(standings)
        self._used_at = dict.fromkeys(self._standings, now)
        self._waiting: dict[int, Waiting] = {}
        self._lines: dict[tuple[int, bool, int, int], _Line] = {}
        self._kinds: dict[int, set[tuple[bool, int, int]]] = {}  # by team: which lines it has
        # By class and number of GPUs: (score without misfit, id, team, stamp). One of an older stamp than its team's is
        # dead.
        self._heads: dict[tuple[int, int], list[tuple[float, int, int, int]]] = {}
        self._stamps: dict[int, int] = {}
        self._stamp = itertools.count(1)
        self._later: list[tuple[float, int, Waiting]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._later)

    def waiting(self) -> Iterable[Waiting]:
        """Return what waits, in no order, without what waits for its time."""
        return self._waiting.values()

    def standing(self, team: int) -> Standing:
        """Return how a team stands now."""
        return self._standings.setdefault(team, Standing())

    def add(self, job: Waiting, *, now: float) -> None:
        """Have a job wait; one with a time of its own is kept aside until `now` has reached it."""
        if job.not_before > now:
            heapq.heappush(self._later, (job.not_before, job.id, job))
            return
        self._waiting[job.id] = job
        line = self._lines.setdefault((job.team, job.is_short, job.gpu_gb, job.gpus), _Line())
        heapq.heappush(line.jobs, (job.queued_at, job.id))
        self._kinds.setdefault(job.team, set()).add((job.is_short, job.gpu_gb, job.gpus))
        if line.jobs[0][1] == job.id:
            self._show(job.team)

    def wake(self, now: float) -> float | None:
        """Bring in what has waited for its time; return the next such time, None if there is none."""
        while self._later and self._later[0][0] <= now:
            job = heapq.heappop(self._later)[2]
            self.add(replace(job, not_before=0.0), now=now)
        return self._later[0][0] if self._later else None

    def best(
        self, slot_gb: int, takes: int | None = None, *, slots: Mapping[int, int] | None = None
    ) -> Waiting | None:
        """Return the job that starts next on a free slot of the class `slot_gb`, None if none may.

        `slots` is how many slots its machine has for a job of a class: one that needs more is passed over.

        `takes` is the largest class it takes where that is another one: a processor without GPUs beside it takes
        every job, and none is a misfit there.
        """
        found: tuple[float, int] | None = None
        largest = slot_gb if takes is None else takes
        for (gpu_gb, gpus), heads in self._heads.items():
            if gpu_gb > largest or (gpus > 1 and gpus > (slots or {}).get(gpu_gb, 1)):
                continue
            self._drop_dead(heads)
            if heads:
                misfit = self.rules.misfit if gpu_gb < slot_gb else 0.0
                candidate = (heads[0][0] + misfit, heads[0][1])
                found = candidate if found is None else min(found, candidate)
        return self._waiting[found[1]] if found is not None else None

    def start(self, job: Waiting, *, now: float) -> None:
        """Begin a job: it waits no longer, its team runs one more and is charged what it is expected to take."""
        del self._waiting[job.id]
        self._change(job.team, 1, is_short=job.is_short, used=job.seconds * job.gpus, now=now)

    def end(
        self, team: int, *, is_short: bool = False, more_than_expected: float = 0.0, now: float = 0.0
    ) -> None:
        """End a running job of a team, which took so many seconds more (or less) than it was charged."""
        self._change(team, -1, is_short=is_short, used=more_than_expected, now=now)

    def _change(self, team: int, more: int, *, is_short: bool, used: float, now: float) -> None:
        standing = self.standing(team)
        before = decayed(self.rules, standing.used, max(0.0, now - self._used_at.get(team, now)))
        self._used_at[team] = now
        self._standings[team] = replace(
            standing,
            running=standing.running + (0 if is_short else more),
            short_running=standing.short_running + (more if is_short else 0),
            used=max(0.0, before + used),
        )
        self._show(team)

    def _show(self, team: int) -> None:
        """Put the heads of a team's lines up anew, where it does not run as many as it may."""
        stamp = self._stamps[team] = next(self._stamp)
        standing = self.standing(team)
        for is_short, gpu_gb, gpus in self._kinds.get(team, ()):
            if standing.is_full(is_short):
                continue
            line = self._lines[team, is_short, gpu_gb, gpus]
            while line.jobs and line.jobs[0][1] not in self._waiting:
                heapq.heappop(line.jobs)
            if line.jobs:
                queued_at, job_id = line.jobs[0]
                mine = score(self.rules, standing, queued_at=queued_at, is_short=is_short)
                entry = (mine, job_id, team, stamp)
                heapq.heappush(self._heads.setdefault((gpu_gb, gpus), []), entry)

    def _drop_dead(self, heads: list[tuple[float, int, int, int]]) -> None:
        while heads and (heads[0][3] != self._stamps[heads[0][2]] or heads[0][1] not in self._waiting):
            heapq.heappop(heads)
