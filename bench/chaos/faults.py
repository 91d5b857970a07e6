"""What is broken, when, and how often: real signals, real full disks, each chosen by seeded dice."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from bench.chaos.arena import Arena, Disk, Slot
from bench.chaos.patience import steadily

# How long a frozen process stays so beyond its lease: the clock (every 5 s) takes the job back, another attempt
# begins, and all of that is over when it wakes up.
FROZEN = (8.0, 14.0)
FULL = (3.0, 6.0)
# A third crash ends a job as failed, rightly: no job is hit more often.
MOST_HITS = 2

# How many of each are in the deck that is dealt from; an empty deck is shuffled anew.
DECK = {
    "kill worker": 4, "kill engine": 5, "kill web": 2, "kill clock": 2, "kill short worker": 1,
    "freeze worker": 3, "freeze engine": 2, "freeze whole slot": 3,
    "wipe Valkey": 2, "stop Postgres at once": 2, "run disk full": 1, "blob disk full": 1,
}  # fmt: skip
SHORT_DECK = ("freeze worker", "kill engine", "wipe Valkey", "stop Postgres at once", "kill worker")


@dataclass
class Until:
    """Hold something that ends by itself: a frozen process, a full disk."""

    end: float
    undo: Callable[[], None]
    again: Callable[[], None] = lambda: None
    slot: str = ""


@dataclass
class Faults:
    """Deal faults. `tick` is called several times a second and breaks what is due."""

    arena: Arena
    dice: random.Random
    pause: float
    short: bool = False
    done: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    full: list[tuple[float, float]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    _deck: list[str] = field(default_factory=list)
    _under_way: list[Until] = field(default_factory=list)
    _next: float = 0.0
    _proof: str = ""

    def __post_init__(self) -> None:
        self._deck = self._shuffled()

    def tick(self) -> None:
        """End what is over, keep up what lasts, and break the next thing when its time has come."""
        now = time.monotonic()
        for each in list(self._under_way):
            if now >= each.end:
                each.undo()
                self._under_way.remove(each)
            else:
                each.again()
        self._see_wiped()
        if now < self._next:
            return
        if self.short and not (self._deck and steadily(_running)):
            return
        if not self._deck:
            self._deck = self._shuffled()
        # What finds nobody to hit now stays in the deck, and another one is tried at once.
        for place in range(len(self._deck) - 1, -1, -1):
            name = self._deck[place]
            if self._break(name):
                del self._deck[place]
                self.done[name] += 1
                self._next = now + (self.pause if self.short else self.dice.expovariate(1 / self.pause))
                return
        self._next = now + 0.5

    def end(self) -> None:
        """End everything that is still under way."""
        for each in self._under_way:
            each.undo()
        self._under_way.clear()

    def _shuffled(self) -> list[str]:
        if self.short:
            return list(reversed(SHORT_DECK))
        deck = [name for name, count in DECK.items() for _ in range(count)]
        self.dice.shuffle(deck)
        return deck

    def _break(self, name: str) -> bool:
        try:
            broken = self._carry_out(name)
        except (psutil.Error, LookupError):  # it was gone already, or is being started again
            return False
        if broken:
            self.log.append(f"{time.strftime('%H:%M:%S')} {name} {broken if isinstance(broken, str) else ''}")
        return bool(broken)

    def _carry_out(self, name: str) -> bool | str:
        action, _, part = name.partition(" ")
        if name in ("kill worker", "kill engine") or action == "freeze":
            return self._hit(action, part)
        if name == "kill web":
            self.arena.kill_web()
        elif name == "kill clock":
            self.arena.child("manage.py", "tick").kill()
        elif name == "kill short worker":
            self.arena.child("dramatiq", "config.worker").kill()
        elif name == "wipe Valkey":
            return self._wipe()
        elif name == "stop Postgres at once":
            # Away for longer than the engines' leases (8 s; this takes long on a busy machine), it ends them all.
            if not self._may_hit_all():
                return False
            # What `pg_ctl stop -m immediate` sends: no checkpoint, no goodbye, recovery from the log at the start.
            self.arena.child("postgres", "-D").send_signal(signal.SIGQUIT)
        else:
            return self._fill(self.arena.disks["runs" if name == "run disk full" else "blobs"])
        return True

    # -- One slot ----------------------------------------------------------------------------------------------

    def _hit(self, action: str, part: str) -> bool | str:
        """Kill or freeze the worker, the engine or the whole slot of a running job."""
        # Half of the slots at most are frozen at once: the others must be there to take over.
        frozen = {each.slot for each in self._under_way if each.slot}
        if action == "freeze" and len(frozen) >= max(1, self.arena.slot_count // 2):
            return False
        running = [row for row in steadily(_running) if row["worker__name"] not in frozen]
        self.dice.shuffle(running)
        for row in running:
            slot = self.arena.slot(row["worker__name"])
            if slot is None or slot.engine is None or not self._may_hit(row):
                continue
            targets = _parts(slot, part)
            if action == "kill":
                targets[0].kill()
            else:
                self._freeze(targets, row["worker__name"])
            self.hits[row["uid"]] += 1
            return f"({row['worker__name']}, {row['uid']} at step {row['step']})"
        return False

    def _may_hit_all(self) -> bool:
        """Tell whether all that run may lose their engine once more, and count that they do."""
        live = steadily(_live)
        if not live or not all(self._may_hit(row) for row in live):
            return False
        self.hits.update(row["uid"] for row in live)
        return True

    def _may_hit(self, row: dict[str, Any]) -> bool:
        return max(self.hits[row["uid"]], row["crashes"]) < MOST_HITS

    def _freeze(self, targets: list[psutil.Process], slot: str) -> None:
        for process in targets:
            process.suspend()

        def thaw() -> None:
            for process in reversed(targets):
                with contextlib.suppress(psutil.Error):
                    process.resume()

        seconds = self.arena.timing.lease + self.dice.uniform(*FROZEN)
        self._under_way.append(Until(time.monotonic() + seconds, thaw, slot=slot))

    # -- What all share ----------------------------------------------------------------------------------------

    def _wipe(self) -> bool:
        """Lose every ticket, and see later that they really were lost: a key of ours must be gone."""
        if self._proof:
            return False
        key = f"chaos-{self.done['wipe Valkey']}"
        try:
            with _valkey() as client:
                client.set(key, "kept")
        except redis.RedisError:
            return False
        self.arena.wipe_valkey()
        self._proof = key
        return True

    def _see_wiped(self) -> None:
        if not self._proof:
            return
        with contextlib.suppress(redis.RedisError), _valkey() as client:
            self.done["(Valkey came back empty)"] += client.get(self._proof) is None
            self._proof = ""

    def _fill(self, disk: Disk) -> bool:
        """Fill a disk for some seconds. Every running job may lose its engine by it."""
        if any(each.undo == other.empty for each in self._under_way for other in self.arena.disks.values()):
            return False
        if disk.folder.name == "runs" and not self._may_hit_all():
            return False

        def keep_full() -> None:
            disk.fill([process for slot in self.arena.slots() for process in slot.everything()])

        keep_full()
        seconds = self.dice.uniform(*FULL)
        self.full.append((time.time(), time.time() + seconds + 1))
        self._under_way.append(Until(time.monotonic() + seconds, disk.empty, keep_full))
        return True


def _parts(slot: Slot, part: str) -> list[psutil.Process]:
    assert slot.engine is not None
    if part == "whole slot":
        return slot.everything()
    return [slot.engine if part == "engine" else slot.worker]


def _running() -> list[dict[str, Any]]:
    from training.models import TrainingJob

    rows = TrainingJob.unscoped.filter(state="running", worker__isnull=False, step__gte=2)
    return list(rows.values("uid", "step", "crashes", "worker__name"))


def _live() -> list[dict[str, Any]]:
    from training.models import TrainingJob

    rows = TrainingJob.unscoped.filter(state__in=["starting", "running", "stopping", "finalizing"])
    return list(rows.values("uid", "crashes"))


def _valkey() -> redis.Redis:
    from django.conf import settings

    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2)
