"""One slot of a machine (a GPU, or the processor): its row, its sign of life, its loop."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dramatiq
import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from training.models import Worker
from training.models.worker import WorkerState
from training.queue.claim import claim_next
from training.queue.quarantine import count_crashes, is_quarantined, of_before
from training.run_folder import remove_leftovers
from training.runner import Runner
from training.tasks import TICKET_QUEUE
from training.warm import WarmEngine
from training.worker_cache import sweep_cache

log = logging.getLogger(__name__)

# An idle worker looks for itself this often; tickets only make it faster.
POLL_SECONDS = 5.0
TICKET_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
SWEEP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Device:
    """Name what a slot computes on; 0 MB means the processor."""

    name: str
    memory_mb: int = 0


def probe(index: int) -> Device:
    """Return the GPU with `index` as the driver's own tool tells it, or the processor where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits", "-i", str(index)]
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        name, _, memory = found.stdout.strip().partition(",")
        if found.returncode == 0 and memory.strip().isdigit():
            return Device(name.strip(), int(memory))
    return Device(f"{platform.machine()} CPU, {os.cpu_count()} cores")


def free_mb(folder: Path) -> int:
    """Return how much can be written into `folder`, made if it is not there; 0 where nothing can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free // 2**20
    except OSError:
        return 0


class Tickets:
    """Take wake-ups off the queue, one at a time and only while idle, so that none is held by a busy worker."""

    def __init__(self) -> None:
        self._try_after = 0.0

    def wait(self, seconds: float, draining: threading.Event) -> bool:
        """Wait for a ticket up to `seconds`; tell whether one came."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not draining.is_set():
            if time.monotonic() < self._try_after:
                draining.wait(TICKET_SECONDS)
                continue
            try:
                if self._take():
                    return True
            except (redis.RedisError, OSError) as error:
                log.warning("no tickets, the broker does not answer: %s", error)
                self._try_after = time.monotonic() + 2.0
        return False

    def _take(self) -> bool:
        """Wait a moment for a ticket. Dramatiq's own consumer asks and sleeps in turns, up to a fifth of a second.

        A ticket names no job, so it needs no acknowledgement: what is lost with this process does no harm. The keys are
        those of dramatiq/brokers/redis/dispatch.lua.
        """
        broker: Any = dramatiq.get_broker()
        queue = f"{broker.namespace}:{TICKET_QUEUE}"
        found = broker.client.blpop([queue], timeout=TICKET_SECONDS)
        if found is None:
            return False
        broker.client.hdel(f"{queue}.msgs", found[1])
        return True


class WorkerSlot:
    """Run jobs one after another until told to drain. Call `run` from the main thread.

    With `once` it also goes by itself when it has found nothing to do for so many seconds: pods that are started by
    the length of the queue end this way, so that no busy one is ever chosen to go.
    """

    def __init__(
        self, *, gpu: int = 0, name: str = "", drain_seconds: float = 120.0, once: float | None = None
    ) -> None:
        self.draining = threading.Event()
        self._drain_seconds = drain_seconds
        self._device = probe(gpu)
        self._node, self._number = socket.gethostname()[:120], gpu
        self._name = name or f"{self._node}:{gpu}"
        environment = {"CUDA_VISIBLE_DEVICES": str(gpu)} if self._device.memory_mb else {}
        # On a processor the web server shares the cores with training, and goes first.
        self._warm = WarmEngine(environment, niceness=0 if self._device.memory_mb else 5)
        self._tickets = Tickets()
        self._row: Worker | None = None
        self._is_lent = False
        self._swept = float("-inf")
        self._once_only = once
        self._idle_since = time.monotonic()
        self._stopped = threading.Event()
        self._had_room = True

    def run(self) -> None:
        """Serve until `draining` is set; a running job then saves a checkpoint and goes back to the queue."""
        self._warm.ensure()
        heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heartbeat.start()
        try:
            while not self.draining.is_set():
                self._once()
        finally:
            self._stopped.set()
            heartbeat.join()
            self._warm.stop()
            with contextlib.suppress(DatabaseError):
                self._set_state(WorkerState.LOST)

    def _once(self) -> None:
        if not self._warm.ensure():
            self.draining.wait(0.1)
            return
        self._sweep()
        try:
            row, state = self._registered()
            if self._is_lent:
                self._idle_since = time.monotonic()
            apart = is_quarantined(row, state) or self._is_lent or not self._has_room()
            lease = None if apart else claim_next(row)
        except DatabaseError as error:
            log.warning("no jobs, the database does not answer: %s", error)
            connection.close()
            self.draining.wait(1.0)
            return
        if lease is None:
            if self._once_only is not None and time.monotonic() - self._idle_since > self._once_only:
                self.draining.set()
            if apart:  # tickets are for others
                self.draining.wait(POLL_SECONDS)
            else:
                self._tickets.wait(POLL_SECONDS, self.draining)
            return
        log.info("%s #%s starts", lease.job_uid, lease.fence)
        with contextlib.suppress(DatabaseError):
            self._set_state(WorkerState.BUSY)
        runner = Runner(lease, self._warm, self.draining, drain_seconds=self._drain_seconds)
        runner.run()
        log.info("%s #%s ended", lease.job_uid, lease.fence)
        self._idle_since = time.monotonic()
        with contextlib.suppress(DatabaseError):
            self._set_state(count_crashes(row, lease, runner.crash))

    def _has_room(self) -> bool:
        """Tell whether the runs' disk has room for one more, and say so when that changes.

        Without it every job would crash here at once, the next one too: a full disk would work off the whole queue.
        """
        has_room = free_mb(Path(settings.RUNS_DIR)) >= settings.RUNS_FREE_MB
        if has_room != self._had_room:
            log.warning("the disk of the runs %s", "has room again" if has_room else "is full: no jobs")
        self._had_room = has_room
        return has_room

    def _sweep(self) -> None:
        """Between two jobs, once an hour: give up what the cache has kept for too long."""
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        try:
            sweep_cache()
        except OSError as error:
            log.warning("the cache could not be swept: %s", error)

    def _registered(self) -> tuple[Worker, str]:
        """Return the slot's row, made anew where there is none (a database may have been put back), and its state."""
        if self._row is not None:
            found = Worker.objects.filter(pk=self._row.pk).values_list("state", "lent_to").first()
            if found is not None:
                self._is_lent = found[1] is not None
                return self._row, found[0]
        name = self._name[:120]
        before = of_before(name)
        if before is not None:
            before.node, before.number = self._node, self._number
            before.save(update_fields=["node", "number"])
        self._row = before or Worker.objects.create(
            name=name,
            device=self._device.name[:120],
            memory_mb=self._device.memory_mb,
            node=self._node,
            number=self._number,
            state=WorkerState.IDLE,
            seen_at=timezone.now(),
        )
        remove_leftovers()
        return self._row, self._row.state

    def _set_state(self, state: WorkerState) -> None:
        if self._row is None:
            return
        self._row.state = state
        rows = Worker.objects.filter(pk=self._row.pk)
        if state == WorkerState.LOST:
            rows = rows.exclude(state=WorkerState.QUARANTINED)
        elif self.draining.is_set() and state == WorkerState.IDLE:
            state = WorkerState.DRAINING
        rows.update(state=state, seen_at=timezone.now())

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            row = self._row
            if row is None:
                continue
            try:
                rows = Worker.objects.filter(pk=row.pk)
                if (
                    row.state == WorkerState.QUARANTINED
                ):  # an operator may have let it out: that is not undone
                    rows.update(seen_at=timezone.now())
                    continue
                # A worker that was thought lost says that it is not.
                state = WorkerState.DRAINING if self.draining.is_set() else row.state
                rows.update(seen_at=timezone.now(), state=state)
            except DatabaseError as error:
                log.warning("no sign of life, the database does not answer: %s", error)
            finally:
                connection.close()
        connection.close()
