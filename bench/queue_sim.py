"""Play a month of the queue with the real policy: `python -m bench.queue_sim [--jobs 1000000] [--compare | --short]`.

2 000 teams of all plans send trainings and orders of pictures to 50 GPUs of three sizes, more by day than by night; one
attempt in a hundred crashes. What starts next is asked of `training.queue.board`, who makes room of
`training.queue.preemption`: the code of the product, not a model of it. Printed: waits by plan, how fair the shares
are, preemptions, work done twice. `--compare` plays a shorter month with other constants beside it, `--short` one with
other rules for short work, on fifty GPUs and on a single one; docs/queue-simulation.md holds the tables.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time
from collections import defaultdict
from dataclasses import replace

from bench.queue_month import DAY, GPUS, MONTH, TIERS, Month, Tier
from training.queue.board import Board, Waiting
from training.queue.policy import Rules, Standing

_RANKS = {tier.name: tier.rank for tier in TIERS}


def told(name: str, month: Month, seconds: float) -> list[str]:
    """Return a month's rows of the table."""
    result = month.result
    lines = []
    for who in sorted(
        result.waits, key=lambda who: (who.endswith("pictures"), _RANKS.get(who.split(",")[0], 0))
    ):
        if waits := sorted(result.waits[who]):
            p50, p90, p99 = (
                waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.9, 0.99)
            )
            spans = " | ".join(_span(each) for each in (p50, p90, p99, waits[-1]))
            lines.append(f"| {name} | {who} | {len(waits)} | {spans} |")
    busy = result.busy / (len(month.slots) * MONTH)
    print(
        f"{name}: {result.ended} ended, {result.refused} refused by the queued limit, GPUs busy {busy:.0%}, "
        f"{result.preemptions} preemptions, {result.passes} times a training let pictures pass, {result.crashes} "
        f"crashes, {result.restarts / max(1, result.busy):.2%} of the time spent on going on, "
        f"{result.wasted / max(1, result.busy):.2%} of the work done twice, "
        f"{result.beyond_bound} waited beyond the bound, {seconds:.0f} s to play"
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


HEAD = (
    "| constants | plan | started | wait p50 | p90 | p99 | longest |",
    "|---|---|---|---|---|---|---|",
)


def short_work(usual: Rules, jobs: int, orders: int, load: float) -> list[str]:
    """Play other rules for short work: on the fifty GPUs, and on the only GPU of one team."""
    never = replace(usual, short_waits=math.inf)
    variants = {
        "as shipped": usual,
        "no letting pass": never,
        "no head start": replace(usual, short_boost=0.0),
        "neither": replace(never, short_boost=0.0),
        "ten minutes before a training lets pass": replace(usual, least_run_for_short=600.0),
    }
    rows = list(HEAD)
    for name, rules in variants.items():
        began = time.monotonic()
        month = Month(rules, jobs=jobs, orders=orders, load=load)
        month.play()
        rows += told(name, month, time.monotonic() - began)
    alone = [Tier("one team", 0, 0, 1, 2**31, 2**31, True, False, 1.0, 1.0)]
    for name, rules in variants.items():
        began = time.monotonic()
        month = Month(rules, jobs=400, orders=3_000, load=load, gpus=(24,), tiers=list(alone))
        month.play()
        rows += told(f"{name}, one GPU", month, time.monotonic() - began)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument(
        "--load", type=float, default=0.85, help="work sent, as a part of what the GPUs can do"
    )
    parser.add_argument("--orders", type=int, default=300_000, help="orders of pictures beside the trainings")
    parser.add_argument(
        "--short", action="store_true", help="play a tenth of the month with other rules for short work"
    )
    parser.add_argument(
        "--compare", action="store_true", help="play a month of a tenth of the jobs with other constants"
    )
    options = parser.parse_args()
    usual = Rules()
    variants = {"as shipped": (usual, True)}
    jobs, orders = options.jobs, options.orders
    if options.short:
        print("\n".join(short_work(usual, jobs // 10, orders // 10, options.load)))
        return
    if options.compare:
        jobs, orders = jobs // 10, orders // 10
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
    rows = list(HEAD)
    for name, (rules, preempts) in variants.items():
        began = time.monotonic()
        month = Month(rules, jobs=jobs, orders=orders, load=options.load, preempts=preempts)
        month.play()
        rows += told(name, month, time.monotonic() - began)
    print("\n".join(rows))
    print("\n".join(shares(usual)))


if __name__ == "__main__":
    main()
