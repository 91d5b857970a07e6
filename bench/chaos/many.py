"""Many trainings under random faults, from the first to the last, and the verdict."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from bench.chaos import checks
from bench.chaos.arena import SHORT, USUAL, Arena
from bench.chaos.facts import Facts, gather
from bench.chaos.faults import Faults
from bench.chaos.orders import CADENCE, Order, Shop, make_orders
from bench.chaos.patience import steadily

# A run of 48 steps sleeps this long after each: it outlasts the lease, and many fit on two cores.
STEP_SECONDS = 0.3
LONGEST = 3600.0
ENDED = ("succeeded", "failed", "canceled", "stopped")


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how large a chaos is; `undo` takes a safeguard away, `short` deals each fault of a short deck once."""

    jobs: int
    slots: int
    steps: int
    pause: float
    seed: int
    undo: str = ""
    short: bool = False


def main(plan: Plan) -> int:
    """Run it and return the exit status: 0 if every check held."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started and mounted is cleared away
    timing = SHORT if plan.short else USUAL
    arena = Arena(slots=plan.slots, pace=STEP_SECONDS, timing=timing, undo=plan.undo)
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    os.environ.update(LF_VAR_DIR=str(arena.var), DJANGO_SETTINGS_MODULE="config.settings")
    os.environ.update(arena.settings)
    try:
        arena.wait_until_ready()
        arena.start_slots()
        import django

        django.setup()
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # the database goes away on purpose
        return _run(arena, plan)
    finally:
        arena.stop()


def _run(arena: Arena, plan: Plan) -> int:
    dice = random.Random(plan.seed)
    shop = Shop(arena.var, plan.steps)
    orders = make_orders(plan.jobs, plan.steps, dice)
    real = all(disk.is_real for disk in arena.disks.values())
    print(
        f"{plan.jobs} jobs of {plan.steps} steps on {plan.slots} slots, a checkpoint every {CADENCE}, "
        f"lease {arena.timing.lease} s; "
        f"disks: {'real, of their own' if real else 'a limit on file sizes (no right to mount)'}",
        flush=True,
    )
    for order in orders:
        if not order.is_late:
            shop.queue(order)
    faults = Faults(arena, dice, plan.pause, short=plan.short)
    began = time.monotonic()
    disturb(shop, orders, faults, dice)
    faults.end()
    lasted = time.monotonic() - began
    quiet = [Order(f"undisturbed {model}", model) for model in sorted({order.model for order in orders})]
    for order in quiet:
        shop.queue(order)
    _wait(quiet, shop)
    _settle(arena)
    facts = gather(arena, shop, [*orders, *quiet], quiet, faults.full)
    return _report(facts, faults, orders, lasted)


def disturb(shop: Shop, orders: list[Order], faults: Faults, dice: random.Random) -> None:
    """Break things until every order has ended; queue the late ones and carry wishes meanwhile."""
    late = [order for order in orders if order.is_late]
    due = time.monotonic() + 20
    told, deadline = time.monotonic(), time.monotonic() + LONGEST
    while True:
        rows = _rows(orders)
        ended = sum(row["state"] in ENDED for row in rows.values())
        if ended == len(orders):
            return
        if late and time.monotonic() > due and ended:
            shop.queue(late.pop())
            due = time.monotonic() + dice.uniform(5, 20)
        if late and ended == len(orders) - len(late):
            due = 0.0
        for order in orders:
            if order.wish and order.job is not None:
                row = rows[order.job.pk]
                shop.wish(order, row["state"], row["step"])
        faults.tick()
        _let_out(faults)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            states = Counter(row["state"] for row in rows.values())
            print(f"  {dict(states)}; {sum(faults.done.values())} faults", flush=True)
        if time.monotonic() > deadline:
            print("  it takes too long: given up")
            return
        time.sleep(0.2)


def _rows(orders: list[Order]) -> dict[int, dict[str, Any]]:
    from training.models import TrainingJob

    keys = [order.job.pk for order in orders if order.job is not None]
    rows = TrainingJob.unscoped.filter(pk__in=keys)
    return {row["pk"]: row for row in steadily(lambda: list(rows.values("pk", "state", "step", "crashes")))}


def _let_out(faults: Faults) -> None:
    """Be the operator who puts a slot back into service on which the faults made job after job crash."""
    from training.models import Worker
    from training.queue.quarantine import release

    found = steadily(lambda: list(Worker.objects.filter(state="quarantined")))
    if found:
        faults.done["(slots let out of quarantine)"] += len(found)
        steadily(lambda: release(found))


def _wait(orders: list[Order], shop: Shop) -> None:
    deadline = time.monotonic() + 300
    while any(row["state"] not in ENDED for row in _rows(orders).values()):
        if time.monotonic() > deadline:
            raise TimeoutError("the undisturbed runs do not end")
        time.sleep(0.5)


def _settle(arena: Arena) -> None:
    """Give the last letters and folders a moment to go, and the site one to come back."""
    from core.models import OutboxMessage

    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        letters = steadily(OutboxMessage.objects.filter(actor="mail_outcome", done_at=None).count)
        if not letters and not list((arena.var / "runs").glob("trn_*")) and arena.status() == 200:
            return
        time.sleep(0.5)


def _report(facts: Facts, faults: Faults, orders: list[Order], lasted: float) -> int:
    for line in faults.log:
        print(f"  {line}")
    outcomes = Counter(attempt.outcome for job in facts.jobs for attempt in job.attempts)
    again = [n for job in facts.jobs for _, n in checks.redone(job, facts.steps.get(job.uid, []))]
    made = sum(len(steps) for steps in facts.steps.values())
    wishes = Counter(order.wish for order in orders if order.wished)
    table = {
        "jobs": f"{len(facts.jobs)}: {dict(Counter(job.state for job in facts.jobs))}",
        "wishes carried out": dict(wishes),
        "faults": dict(sorted(faults.done.items())),
        "attempts": f"{sum(outcomes.values())}: {dict(outcomes)}",
        "steps made": made,
        "steps made again": f"{sum(again)} after {len(again)} attempts, {max(again, default=0)} at most",
        "steps beside a later attempt": len(checks.stale_steps(facts)),
        "steps under way when frozen, ended later": len(checks.finished_late(facts)),
        "weights compared": sum(job.state == "succeeded" for job in facts.jobs),
        "of these with the demo model": sum(
            job.state == "succeeded" and job.model == "demo" for job in facts.jobs
        ),
        "seconds charged": facts.used,
        "seconds under faults": f"{lasted:.0f}",
    }
    for name, value in table.items():
        print(f"{name:<42}{value}")
    failed = 0
    for name, check in checks.CHECKS.items():
        wrong = check(facts)
        failed += bool(wrong)
        print(f"{'FAIL' if wrong else 'ok  '} {name}" + (f": {len(wrong)}, {wrong[:4]}" if wrong else ""))
    return int(failed > 0)
