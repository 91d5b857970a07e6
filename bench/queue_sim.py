"""Play a month of the queue with the real policy: `python -m bench.queue_sim [--jobs 1000000] [--compare]`.

2 000 teams of all plans send jobs to 50 GPUs of three sizes, more by day than by night; one attempt in a hundred
crashes. What starts next is asked of `training.queue.board`, who makes room of `training.queue.preemption`: the code of
the product, not a model of it. Printed: waits by plan, how fair the shares are, preemptions, work done twice.
`--compare` plays a shorter month with other constants beside it; docs/queue-simulation.md holds both tables.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
LOOKS_EVERY = 10.0


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
    """Collect what a month shows."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    used: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    ended: int = 0
    refused: int = 0
    preemptions: int = 0
    crashes: int = 0
    wasted: float = 0.0
    busy: float = 0.0
    beyond_bound: int = 0


def arrivals(
    dice: random.Random, jobs: int, tiers: list[Tier], load: float
) -> Iterator[tuple[float, int, int, float]]:
    """Yield (when, team, GPU, seconds), in order: three times as many by day as by night, few teams send most."""
    weights = [tier.activity / (1 + number % 50) ** 0.7 for number, tier in enumerate(tiers)]
    chosen = dice.choices(range(len(tiers)), weights, k=jobs)
    mean = load * len(GPUS) * MONTH / jobs
    sigma = 1.3
    median = mean / math.exp(sigma**2 / 2)
    moments = sorted(_moment(dice) for _job in range(jobs))
    for when, team in zip(moments, chosen, strict=True):
        gb = dice.choices((24, 48, 80), (60, 30, 10))[0]
        yield when, team, gb, min(DAY, max(5.0, dice.lognormvariate(math.log(median), sigma)))


def _moment(dice: random.Random) -> float:
    while True:
        when = dice.uniform(0, MONTH)
        if dice.random() < (1 + 0.5 * math.sin(2 * math.pi * when / DAY)) / 1.5:
            return when


class Month:
    """Play one month."""

    def __init__(self, rules: Rules, *, jobs: int, load: float, seed: int = 1, preempts: bool = True) -> None:
        self.rules, self.preempts = rules, preempts
        self.dice = random.Random(seed)
        self.tiers = [tier for tier in TIERS for _team in range(round(TEAMS * tier.share))]
        self.dice.shuffle(self.tiers)
        standings = {
            number: Standing(tier.boost, tier.weight, tier.running) for number, tier in enumerate(self.tiers)
        }
        self.board = Board(rules, standings)
        self.slots = [Slot(gb) for gb in GPUS]
        self.idle = set(range(len(GPUS)))
        self.jobs: dict[int, Job] = {}
        self.queued: dict[int, int] = defaultdict(int)
        self.ends: list[tuple[float, int, float, bool]] = []  # when, slot, since when, crashes
        self.coming = arrivals(self.dice, jobs, self.tiers, load)
        self.result = Result()

    def play(self) -> Result:
        next_arrival = next(self.coming, None)
        next_look = LOOKS_EVERY
        number = 0
        while next_arrival is not None or self.ends:
            now = min(
                next_arrival[0] if next_arrival else math.inf, self.ends[0][0] if self.ends else math.inf
            )
            if now > next_look:
                next_look = now + LOOKS_EVERY
                if self.preempts and len(self.board):
                    self._make_room(now)
            if next_arrival is not None and next_arrival[0] <= now:
                number += 1
                self._arrive(number, next_arrival)
                next_arrival = next(self.coming, None)
            else:
                self._end(*heapq.heappop(self.ends))
            self._fill(now)
        return self.result

    def _arrive(self, number: int, coming: tuple[float, int, int, float]) -> None:
        now, team, gb, seconds = coming
        if self.queued[team] >= self.tiers[team].queued:
            self.result.refused += 1
            return
        self.jobs[number] = job = Job(number, team, gb, seconds, now)
        self._wait(job, now)

    def _wait(self, job: Job, now: float) -> None:
        self.queued[job.team] += 1
        left = max(1.0, job.seconds - job.done)
        self.board.add(Waiting(job.id, job.team, job.queued_at, left, job.gb), now=now)

    def _fill(self, now: float) -> None:
        for number in sorted(self.idle):
            slot = self.slots[number]
            best = self.board.best(slot.gb)
            if slot.reserved is not None:
                wanted = self.jobs.get(slot.reserved)
                slot.reserved = None
                if wanted is not None and any(waiting.id == wanted.id for waiting in self.board.waiting()):
                    left = max(1.0, wanted.seconds - wanted.done)
                    best = Waiting(wanted.id, wanted.team, wanted.queued_at, left, wanted.gb)
            if best is None:
                continue
            job = self.jobs[best.id]
            self.board.start(best, now=now)
            self.queued[job.team] -= 1
            self.idle.discard(number)
            slot.job, slot.since = job, now
            if job.began is None:
                job.began = now
                self._note_wait(job, now)
            crashes = self.dice.random() < CRASHES
            span = best.seconds * (self.dice.random() if crashes else 1.0)
            heapq.heappush(self.ends, (now + span, number, now, crashes))

    def _note_wait(self, job: Job, now: float) -> None:
        tier = self.tiers[job.team]
        self.result.waits[tier.name].append(now - job.queued_at)
        bound = overtaken_for(self.rules, largest_boost=21_600, running=tier.running, weight=tier.weight)
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
        self.board.end(job.team, more_than_expected=ran - expected, now=now)
        slot.job = None
        self.idle.add(number)

    def _make_room(self, now: float) -> None:
        claimants = []
        for waiting in self.board.waiting():
            tier, standing = self.tiers[waiting.team], self.board.standing(waiting.team)
            if tier.preempts and standing.running < standing.limit:
                mine = score(self.rules, standing, queued_at=waiting.queued_at)
                claimants.append(
                    Claimant(waiting.id, tier.rank, mine, now - waiting.queued_at, waiting.gpu_gb)
                )
        if not any(claimant.waited > self.rules.preempt_after for claimant in claimants):
            return
        running, soon = [], []
        for number, slot in enumerate(self.slots):
            job = slot.job
            if job is None or slot.reserved is not None:
                continue
            left = max(0.0, job.seconds - job.done - (now - slot.since))
            if left <= self.rules.preempt_if_free_within:
                soon.append(slot.gb)
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
                )
            )
        for exchange in exchanges(self.rules, claimants, running, free_soon=soon):
            job = self.slots[exchange.slot].job
            assert job is not None
            self._leave(exchange.slot, now, keeps=True)  # it saved before it went
            job.preempted.append(now)
            self.slots[exchange.slot].reserved = exchange.winner
            self.result.preemptions += 1
            self._wait(job, now)


def told(name: str, month: Month, seconds: float) -> list[str]:
    """Return a month's rows of the table."""
    result = month.result
    lines = []
    for tier in TIERS:
        waits = sorted(result.waits[tier.name])
        if waits:
            p50, p90, p99 = (
                waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.9, 0.99)
            )
            spans = " | ".join(_span(each) for each in (p50, p90, p99, waits[-1]))
            lines.append(f"| {name} | {tier.name} | {len(waits)} | {spans} |")
    busy = result.busy / (len(GPUS) * MONTH)
    print(
        f"{name}: {result.ended} ended, {result.refused} refused by the queued limit, GPUs busy {busy:.0%}, "
        f"{result.preemptions} preemptions, {result.crashes} crashes, {result.wasted / max(1, result.busy):.2%} of "
        f"the work done twice, {result.beyond_bound} waited beyond the bound, {seconds:.0f} s to play"
    )
    return lines


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def shares(rules: Rules) -> list[str]:
    """Give ten teams of each weight more work than there is room for, for two days, and compare what each gets."""
    tiers = [replace(tier, running=50, boost=0.0) for tier in TIERS for _team in range(10)]
    standings = {n: Standing(0.0, tier.weight, tier.running) for n, tier in enumerate(tiers)}
    board, dice, now = Board(rules, standings), random.Random(5), 0.0
    ends = [(0.0, slot, -1) for slot in range(len(GPUS))]
    used: dict[int, float] = defaultdict(float)
    ids = 0
    for team in standings:
        for _job in range(60):
            ids += 1
            board.add(Waiting(ids, team, 0.0, dice.uniform(300, 900)), now=0.0)
    while ends and now < 2 * DAY:
        now, slot, team = heapq.heappop(ends)
        if team >= 0:
            board.end(team, now=now)
            ids += 1
            board.add(Waiting(ids, team, now, dice.uniform(300, 900)), now=now)
        best = board.best(80)
        if best is not None:
            board.start(best, now=now)
            used[best.team] += best.seconds
            heapq.heappush(ends, (now + best.seconds, slot, best.team))
    per_weight = {
        tier.weight: sum(used[n] for n, each in enumerate(tiers) if each.weight == tier.weight) / 10
        for tier in TIERS
    }
    least = per_weight[1]
    within = max(
        abs(used[n] / per_weight[tier.weight] - 1) for n, tier in enumerate(tiers) if per_weight[tier.weight]
    )
    rows = [
        f"weight {weight}: {seconds / least:.2f} times weight 1" for weight, seconds in per_weight.items()
    ]
    return [*rows, f"teams of one weight differ by at most {within:.1%} from their mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument(
        "--load", type=float, default=0.85, help="work sent, as a part of what the GPUs can do"
    )
    parser.add_argument(
        "--compare", action="store_true", help="play a month of a tenth of the jobs with other constants"
    )
    options = parser.parse_args()
    usual = Rules()
    variants = {"as shipped": (usual, True)}
    jobs = options.jobs
    if options.compare:
        jobs = jobs // 10
        variants |= {
            "no use of late": (replace(usual, per_gpu_hour=0.0), True),
            "half-life of a day": (replace(usual, half_life=DAY), True),
            "twice as much back for use": (
                replace(usual, per_gpu_hour=1200.0, longest_for_use=8 * 3600.0),
                True,
            ),
            "no step back for running jobs": (replace(usual, per_running_job=0.0), True),
            "no preemption": (usual, False),
        }
    rows = [
        "| constants | plan | started | wait p50 | p90 | p99 | longest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (rules, preempts) in variants.items():
        began = time.monotonic()
        month = Month(rules, jobs=jobs, load=options.load, preempts=preempts)
        month.play()
        rows += told(name, month, time.monotonic() - began)
    print("\n".join(rows))
    print("\n".join(shares(usual)))


if __name__ == "__main__":
    main()
