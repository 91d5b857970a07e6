"""When each waiting job will start, and why it waits: the queue played forward. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.queue.board import Board, Waiting
from training.queue.policy import Rules, Standing
from training.states import WaitsFor

# A running job without a forecast of its own.
UNKNOWN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Slot:
    """Hold a slot that takes jobs: its class, and how long what runs there still takes, of which `team`.

    `takes` is the largest class of jobs it takes, where that is not its own (`Board.best`).
    """

    gpu_gb: int
    busy_for: float = 0.0
    team: int | None = None
    is_short: bool = False
    takes: int | None = None

    @property
    def largest(self) -> int:
        """Give the largest class of jobs it takes."""
        return self.gpu_gb if self.takes is None else self.takes


@dataclass(frozen=True, slots=True)
class Start:
    """Hold the expected start of a job: its place (1 is next), seconds from now (None: not to be foreseen), why."""

    id: int
    place: int
    wait: float | None
    waits_for: WaitsFor


def forecast(
    rules: Rules,
    standings: Mapping[int, Standing],
    waiting: Sequence[Waiting],
    slots: Iterable[Slot],
    *,
    now: float,
) -> list[Start]:
    """Play the queue forward from `now` with what is running, and return every job's start, in order of places."""
    slots = list(slots)
    board = Board(rules, standings, now=now)
    for job in waiting:
        board.add(job, now=now)
    largest = max((slot.largest for slot in slots), default=-1)
    reasons = {job.id: _reason(job, standings, bool(slots), largest, now) for job in waiting}
    free: list[tuple[float, int]] = []  # when, number
    for number, slot in enumerate(slots):
        heapq.heappush(free, (now + slot.busy_for, number))
    teams = {number: (slot.team, slot.is_short) for number, slot in enumerate(slots) if slot.team is not None}
    starts: list[Start] = []
    resting: list[int] = []  # slots that found nothing and wait for a change
    while free:
        at, number = heapq.heappop(free)
        if number in teams:
            team, is_short = teams.pop(number)
            was_full = board.standing(team).is_full(is_short)
            board.end(team, is_short=is_short, now=at)
            if was_full:  # its team may start another one, also on a slot that found nothing before
                for rested in resting:
                    heapq.heappush(free, (at, rested))
                resting.clear()
        next_time = board.wake(at)
        best = board.best(slots[number].gpu_gb, slots[number].takes)
        if best is None:
            if next_time is not None:
                heapq.heappush(free, (next_time, number))
            else:
                resting.append(number)
            continue
        board.start(best, now=at)
        teams[number] = best.team, best.is_short
        heapq.heappush(free, (at + max(1.0, best.seconds), number))
        wait = at - now
        reason = WaitsFor.NOTHING if wait == 0.0 else reasons[best.id]
        starts.append(Start(best.id, len(starts) + 1, wait, reason))
    started = {start.id for start in starts}
    left = sorted((job for job in waiting if job.id not in started), key=lambda job: (job.queued_at, job.id))
    return starts + [
        Start(job.id, len(starts) + number, None, reasons[job.id]) for number, job in enumerate(left, 1)
    ]


def _reason(
    job: Waiting, standings: Mapping[int, Standing], has_slots: bool, largest: int, now: float
) -> WaitsFor:
    standing = standings.get(job.team, Standing())
    if not has_slots:
        return WaitsFor.WORKER
    if job.gpu_gb > largest:
        return WaitsFor.GPU
    if standing.is_full(job.is_short):
        return WaitsFor.LIMIT
    return WaitsFor.TIME if job.not_before > now else WaitsFor.TURN
