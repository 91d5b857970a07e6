"""When each waiting job will start, and why it waits: the queue played forward. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.queue.board import Board, Waiting
from training.queue.policy import Rules, Standing
from training.states import WaitsFor

# A running job without a forecast of its own.
UNKNOWN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Slot:
    """Hold a slot that takes jobs: its class, and how long what runs there still takes, of which `team`.

    `takes` is the largest class of jobs it takes, where that is not its own (`Board.best`); `node` its machine.
    """

    gpu_gb: int
    busy_for: float = 0.0
    team: int | None = None
    is_short: bool = False
    takes: int | None = None
    node: str = ""

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
    """Play the queue forward from `now` with what is running, and return every job's start, in order of places.

    A job on several GPUs gathers slots of one machine as they become free; that they wait for no longer than
    `rules.hold_for` is not played.
    """
    slots = list(slots)
    board = Board(rules, standings, now=now)
    for job in waiting:
        board.add(job, now=now)
    machines = _machines(slots, _classes(waiting))
    largest = max((slot.largest for slot in slots), default=-1)
    most = {gb: max((counts[gb] for counts in machines.values()), default=1) for gb in _classes(waiting)}
    reasons = {
        job.id: _reason(job, standings, bool(slots), largest, most[job.gpu_gb], now) for job in waiting
    }
    free: list[tuple[float, int]] = []  # when, number
    for number, slot in enumerate(slots):
        heapq.heappush(free, (now + slot.busy_for, number))
    teams = {number: (slot.team, slot.is_short) for number, slot in enumerate(slots) if slot.team is not None}
    starts: list[Start] = []
    resting: list[int] = []  # slots that found nothing and wait for a change
    gathered: dict[int, list[int]] = {}  # slots that wait for others of their machine, by job

    def wake_resting(at: float) -> None:
        for rested in resting:
            heapq.heappush(free, (at, rested))
        resting.clear()

    while free:
        at, number = heapq.heappop(free)
        slot = slots[number]
        if number in teams:
            team, is_short = teams.pop(number)
            was_full = board.standing(team).is_full(is_short)
            board.end(team, is_short=is_short, now=at)
            if was_full:  # its team may start another one, also on a slot that found nothing before
                wake_resting(at)
        next_time = board.wake(at)
        best = board.best(slot.gpu_gb, slot.takes, slots=machines.get(slot.node))
        if best is None:
            if next_time is not None:
                heapq.heappush(free, (next_time, number))
            else:
                resting.append(number)
            continue
        together = gathered.setdefault(best.id, [])
        if together and slots[together[0]].node != slot.node:
            resting.append(number)  # another machine gathers for it
            continue
        together.append(number)
        if len(together) < best.gpus:
            if len(together) == 1:
                wake_resting(at)
            continue
        board.start(best, now=at)
        teams[number] = best.team, best.is_short
        for each in gathered.pop(best.id):
            heapq.heappush(free, (at + max(1.0, best.seconds), each))
        if best.gpus > 1:
            wake_resting(at)
        wait = at - now
        reason = WaitsFor.NOTHING if wait == 0.0 else reasons[best.id]
        starts.append(Start(best.id, len(starts) + 1, wait, reason))
    started = {start.id for start in starts}
    left = sorted((job for job in waiting if job.id not in started), key=lambda job: (job.queued_at, job.id))
    return starts + [
        Start(job.id, len(starts) + number, None, reasons[job.id]) for number, job in enumerate(left, 1)
    ]


def _machines(slots: Sequence[Slot], classes: Collection[int]) -> dict[str, dict[int, int]]:
    """Return how many slots each machine has for a job of each class."""
    machines: dict[str, dict[int, int]] = {}
    for slot in slots:
        if slot.node:
            counts = machines.setdefault(slot.node, dict.fromkeys(classes, 0))
            for gb in classes:
                counts[gb] += slot.largest >= gb
    return machines


def _classes(waiting: Sequence[Waiting]) -> set[int]:
    return {job.gpu_gb for job in waiting}


def _reason(
    job: Waiting, standings: Mapping[int, Standing], has_slots: bool, largest: int, most: int, now: float
) -> WaitsFor:
    """Say why a job waits; `most` is how many slots of its class the machine with most of them has."""
    standing = standings.get(job.team, Standing())
    if not has_slots:
        return WaitsFor.WORKER
    if job.gpu_gb > largest:
        return WaitsFor.GPU
    if job.gpus > max(1, most):
        return WaitsFor.WORKER
    if standing.is_full(job.is_short):
        return WaitsFor.LIMIT
    return WaitsFor.TIME if job.not_before > now else WaitsFor.TURN
