"""A month of the queue: what comes, what starts and who makes room, by the policy's own code. See `bench.queue_sim`."""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import os  # noqa: E402

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.testing")
import django  # noqa: E402

django.setup()

from training.queue.board import Board, Waiting  # noqa: E402
from training.queue.policy import Rules, Standing, overtaken_for, score  # noqa: E402
from training.queue.preemption import Claimant, Running, exchanges  # noqa: E402

DAY = 86_400.0
MONTH = 30 * DAY
TEAMS = 2_000
GPUS = (24,) * 20 + (48,) * 20 + (80,) * 10
CRASHES = 0.01
CHECKPOINT = 0.05  # of a run
LOOKS_EVERY = 5.0
RESTART = 20.0  # seconds until a training that goes on is where it was: load, resume
ORDER = 25.0  # mean seconds of an order of pictures


@dataclass(frozen=True)
class Tier:
    """Hold a plan as it is seeded, its share of the teams, and how much more than a free team one of it sends."""

    name: str
    rank: int
    boost: float
    weight: int
    running: int
    queued: int
    preemptible: bool
    preempts: bool
    share: float
    activity: float


TIERS = (
    Tier("free", 0, 0, 1, 1, 2, True, False, 0.70, 1.0),
    Tier("pro", 1, 1_800, 2, 2, 10, True, False, 0.20, 4.0),
    Tier("team", 2, 7_200, 4, 5, 50, False, True, 0.08, 20.0),
    Tier("enterprise", 3, 21_600, 8, 32, 500, False, True, 0.02, 100.0),
)


@dataclass
class Job:
    """Hold a job's life."""

    id: int
    team: int
    gb: int
    seconds: float
    queued_at: float
    is_short: bool = False
    done: float = 0.0
    began: float | None = None
    preempted: list[float] = field(default_factory=list)


@dataclass
class Slot:
    """Hold a GPU and what runs on it."""

    gb: int
    job: Job | None = None
    since: float = 0.0
    reserved: int | None = None


@dataclass
class Result:
    """Collect what a month shows; `restarts` are seconds that trainings took to go on after they made room."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    used: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    ended: int = 0
    refused: int = 0
    preemptions: int = 0
    passes: int = 0
    restarts: float = 0.0
    crashes: int = 0
    wasted: float = 0.0
    busy: float = 0.0
    beyond_bound: int = 0


Coming = tuple[float, int, int, float, bool]
"""When, which team, which GPU, how many seconds, whether it is short work."""


def arrivals(
    dice: random.Random, count: int, tiers: list[Tier], sizes: tuple[int, ...], mean: float, *, is_short: bool
) -> Iterator[Coming]:
    """Yield what comes, in order: three times as much by day as by night, few teams send most."""
    weights = [tier.activity / (1 + number % 50) ** 0.7 for number, tier in enumerate(tiers)]
    chosen = dice.choices(range(len(tiers)), weights, k=count)
    sigma = 0.7 if is_short else 1.3
    median = mean / math.exp(sigma**2 / 2)
    moments = sorted(_moment(dice) for _job in range(count))
    for when, team in zip(moments, chosen, strict=True):
        gb = dice.choices(sizes, (60, 30, 10)[: len(sizes)])[0]
        yield when, team, gb, min(DAY, max(5.0, dice.lognormvariate(math.log(median), sigma))), is_short


def _moment(dice: random.Random) -> float:
    while True:
        when = dice.uniform(0, MONTH)
        if dice.random() < (1 + 0.5 * math.sin(2 * math.pi * when / DAY)) / 1.5:
            return when


class Month:
    """Play one month."""

    def __init__(
        self, rules: Rules, *, jobs: int, load: float, orders: int = 0, preempts: bool = True,
        gpus: tuple[int, ...] = GPUS, tiers: list[Tier] | None = None,
    ) -> None:  # fmt: skip
        self.rules, self.preempts = rules, preempts
        self.dice = random.Random(1)
        self.tiers = tiers or [tier for tier in TIERS for _team in range(round(TEAMS * tier.share))]
        self.dice.shuffle(self.tiers)
        standings = {
            number: Standing(tier.boost, tier.weight, tier.running) for number, tier in enumerate(self.tiers)
        }
        self.board = Board(rules, standings)
        self.slots = [Slot(gb) for gb in gpus]
        self.idle = set(range(len(gpus)))
        self.jobs: dict[int, Job] = {}
        self.queued: dict[tuple[int, bool], int] = defaultdict(int)
        self.ends: list[tuple[float, int, float, bool]] = []  # when, slot, since when, crashes
        sizes = tuple(sorted(set(gpus)))
        mean = load * len(gpus) * MONTH / jobs
        self.coming = heapq.merge(
            arrivals(random.Random(3), jobs, self.tiers, sizes, mean, is_short=False),
            arrivals(random.Random(2), orders, self.tiers, sizes[:1], ORDER, is_short=True),
        )
        self.result = Result()

    def play(self) -> Result:
        next_arrival = next(self.coming, None)
        next_look = LOOKS_EVERY
        number = 0
        while next_arrival is not None or self.ends:
            now = min(
                next_arrival[0] if next_arrival else math.inf, self.ends[0][0] if self.ends else math.inf
            )
            while self.preempts and next_look < now and len(self.board):
                if self._make_room(next_look):
                    self._fill(next_look)
                next_look += LOOKS_EVERY
                if self.ends and self.ends[0][0] < now:
                    now = self.ends[0][0]  # what began in the made room ends before the next event
            next_look = max(next_look, now)
            if next_arrival is not None and next_arrival[0] <= now:
                number += 1
                self._arrive(number, next_arrival)
                next_arrival = next(self.coming, None)
            else:
                self._end(*heapq.heappop(self.ends))
            self._fill(now)
        return self.result

    def _arrive(self, number: int, coming: Coming) -> None:
        now, team, gb, seconds, is_short = coming
        if self.queued[team, is_short] >= self.tiers[team].queued:
            self.result.refused += 1
            return
        self.jobs[number] = job = Job(number, team, gb, seconds, now, is_short)
        self._wait(job, now)

    def _wait(self, job: Job, now: float) -> None:
        self.queued[job.team, job.is_short] += 1
        self.board.add(self._waiting(job), now=now)

    @staticmethod
    def _waiting(job: Job) -> Waiting:
        left = max(1.0, job.seconds - job.done)
        return Waiting(job.id, job.team, job.queued_at, left, job.gb, is_short=job.is_short)

    def _fill(self, now: float) -> None:
        for number in sorted(self.idle):
            slot = self.slots[number]
            best = self.board.best(slot.gb)
            if slot.reserved is not None:
                wanted = self.jobs.get(slot.reserved)
                slot.reserved = None
                if wanted is not None and any(waiting.id == wanted.id for waiting in self.board.waiting()):
                    best = self._waiting(wanted)
            if best is None:
                continue
            job = self.jobs[best.id]
            self.board.start(best, now=now)
            self.queued[job.team, job.is_short] -= 1
            self.idle.discard(number)
            slot.job, slot.since = job, now
            if job.began is None:
                job.began = now
                self._note_wait(job, now)
            crashes = self.dice.random() < CRASHES
            span = best.seconds * (self.dice.random() if crashes else 1.0)
            if job.done:  # it goes on: a while passes until it is where it was
                job.done -= RESTART
                span += RESTART
                self.result.restarts += RESTART
            heapq.heappush(self.ends, (now + span, number, now, crashes))

    def _note_wait(self, job: Job, now: float) -> None:
        tier = self.tiers[job.team]
        self.result.waits[f"{tier.name}, pictures" if job.is_short else tier.name].append(now - job.queued_at)
        if job.is_short:
            return
        bound = overtaken_for(
            self.rules, largest_boost=21_600, running=tier.running, weight=tier.weight, by_short=True
        )
        # Beyond the bound only its own team's limit or the number of GPUs keeps a job waiting.
        self.result.beyond_bound += now - job.queued_at > bound

    def _end(self, now: float, number: int, since: float, crashes: bool) -> None:
        slot = self.slots[number]
        job = slot.job
        if job is None or slot.since != since:
            return  # it made room before
        self._leave(number, now, keeps=not crashes)
        if crashes:
            self.result.crashes += 1
            self._wait(job, now)
        else:
            self.result.ended += 1
            del self.jobs[job.id]

    def _leave(self, number: int, now: float, *, keeps: bool) -> None:
        """Free a slot: what the job did is kept, or back to its last checkpoint."""
        slot = self.slots[number]
        assert slot.job is not None
        job, ran = slot.job, now - slot.since
        kept = ran if keeps else math.floor(ran / (CHECKPOINT * job.seconds)) * CHECKPOINT * job.seconds
        expected = max(1.0, job.seconds - job.done)
        job.done += kept
        self.result.wasted += ran - kept
        self.result.busy += ran
        self.result.used[job.team] += ran
        self.board.end(job.team, is_short=job.is_short, more_than_expected=ran - expected, now=now)
        slot.job = None
        self.idle.add(number)

    def _make_room(self, now: float) -> bool:
        """Carry out the exchanges that are due; tell whether there were any."""
        claimants = []
        for waiting in self.board.waiting():
            tier, standing = self.tiers[waiting.team], self.board.standing(waiting.team)
            if (tier.preempts or waiting.is_short) and not standing.is_full(waiting.is_short):
                mine = score(self.rules, standing, queued_at=waiting.queued_at, is_short=waiting.is_short)
                claimants.append(
                    Claimant(
                        waiting.id, tier.rank, mine, now - waiting.queued_at, waiting.gpu_gb, waiting.team,
                        waiting.is_short,
                    )
                )  # fmt: skip
        patience = {False: self.rules.preempt_after, True: self.rules.short_waits}
        if not any(claimant.waited > patience[claimant.is_short] for claimant in claimants):
            return False
        longest = max(self.rules.preempt_if_free_within, self.rules.short_if_free_within)
        running, soon = [], []
        for number, slot in enumerate(self.slots):
            job = slot.job
            if job is None or slot.reserved is not None:
                continue
            left = max(0.0, job.seconds - job.done - (now - slot.since))
            if left <= longest:
                soon.append((slot.gb, left))
            if job.is_short:
                continue
            tier, standing = self.tiers[job.team], self.board.standing(job.team)
            today = sum(at > now - DAY for at in job.preempted)
            running.append(
                Running(
                    id=job.id,
                    slot=number,
                    slot_gb=slot.gb,
                    rank=tier.rank,
                    is_preemptible=tier.preemptible,
                    ran=now - slot.since,
                    left=left,
                    since_checkpoint=(now - slot.since) % (CHECKPOINT * job.seconds),
                    used=standing.used / tier.weight,
                    preempted_today=today,
                    team=job.team,
                )
            )
        found = exchanges(self.rules, claimants, running, free_soon=soon)
        for exchange in found:
            job = self.slots[exchange.slot].job
            assert job is not None
            self._leave(exchange.slot, now, keeps=True)  # it saved before it went
            if exchange.for_short:
                self.result.passes += 1
            else:
                job.preempted.append(now)
                self.result.preemptions += 1
            self.slots[exchange.slot].reserved = exchange.winner
            self._wait(job, now)
        return bool(found)
