"""The platform under chaos: a whole installation, several training workers, and small disks for what they write."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.chaos import oracle
from core.processes import Launch, is_running
from core.supervisor import Program, Supervisor
from tests.installation import ROOT, Installation

DISK_MB = 320
# Below this a worker takes no job; the rest of the small disk is for the jobs that run.
FREE_MB = 64


@dataclass(frozen=True, slots=True)
class Timing:
    """Hold the three times of a lease, in seconds (60, 10 and 40 in a real installation)."""

    lease: int
    renew: int
    engine: int


USUAL, SHORT = Timing(12, 2, 8), Timing(7, 1, 5)


@dataclass(frozen=True, slots=True)
class Slot:
    """Hold the processes of one training worker; `engine` is None between two jobs."""

    worker: psutil.Process
    server: psutil.Process | None
    engine: psutil.Process | None

    def everything(self) -> list[psutil.Process]:
        return [process for process in (self.worker, self.server, self.engine) if process is not None]


class Disk:
    """A folder on a file system of its own that can be filled up; without the right to mount, a limit instead.

    The limit (RLIMIT_FSIZE, put on the running processes) makes the kernel refuse every write to a file just the same,
    with EFBIG in place of ENOSPC.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "chaos", str(folder)]
        self.is_real = (
            subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode
            == 0
        )
        self._ballast = folder / ".ballast"
        self._limited: list[psutil.Process] = []

    def fill(self, writers: list[psutil.Process]) -> None:
        """Take every byte that is free now; call it again and again, for others free some meanwhile."""
        if not self.is_real:
            self._limit(writers)
            return
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def empty(self) -> None:
        """Give the bytes back."""
        self._ballast.unlink(missing_ok=True)
        for process in self._limited:
            with contextlib.suppress(psutil.Error):
                process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self._limited = []

    def _limit(self, writers: list[psutil.Process]) -> None:
        for process in writers:
            with contextlib.suppress(psutil.Error):
                process.rlimit(psutil.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
                self._limited.append(process)

    def close(self) -> None:
        if self.is_real:
            subprocess.run(["umount", "-l", str(self.folder)], check=False, stdin=subprocess.DEVNULL)


class Arena(Installation):
    """An installation whose training workers and disks the bench holds in its own hands."""

    def __init__(self, *, slots: int, pace: float, timing: Timing = USUAL, undo: str = "") -> None:
        self.slot_count = slots
        self.pace, self.timing, self.undo = pace, timing, undo
        self.settings = {
            "LF_LEASE_SECONDS": str(timing.lease),
            "LF_LEASE_RENEW_SECONDS": str(timing.renew),
            # Without the dead-man's switch an engine outlives the lease of its frozen worker.
            "LF_ENGINE_LEASE_SECONDS": str(3600 if undo == "switch" else timing.engine),
            "LF_RUNS_FREE_MB": str(FREE_MB),
            "LF_TEAM_MAX_RUNNING": "1000",
            "LF_TEAM_MAX_QUEUED": "1000",
        }
        super().__init__()

    def begin(self) -> subprocess.Popen[bytes]:
        self.log = self.var / "steps.jsonl"
        self.disks = {name: Disk(self.var / name) for name in ("runs", "blobs")}
        watched = oracle.install(self.var / "oracle", self.log, pace=self.pace, undo=self.undo)
        path = os.pathsep.join([str(ROOT), str(ROOT / "platform"), watched.pop("PYTHONPATH")])
        self.worker_env = {
            **self.env, **watched, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }  # fmt: skip
        return super().begin()

    def start_slots(self) -> None:
        """Start the training workers; each is started again when it dies."""
        self._supervisor = Supervisor(self.var / "log", console=(self.var / "slots.txt").open("w"))
        # Children end with the thread that started them: this one lives until the end.
        self._keeper = threading.Thread(target=self._keep_slots, daemon=True)
        self._keeper.start()

    def _keep_slots(self) -> None:
        for number in range(self.slot_count):
            name = f"slot-{number}"
            command = [sys.executable, str(ROOT / "manage.py"), "gpu_worker", "--name", name]
            launch = Launch(command=[*command, "--drain-seconds", "3"], cwd=ROOT, env=self.worker_env)
            self._supervisor.start(Program(name=name, launch=lambda launch=launch: launch))  # type: ignore[misc]
        self._supervisor.run()
        self._supervisor.stop()

    def slot(self, name: str) -> Slot | None:
        """Return the processes of a slot, None while it is being started again."""
        pid = self._supervisor.pids().get(name)
        try:
            worker = psutil.Process(pid) if pid else None
            if worker is None:
                return None
            servers = [c for c in worker.children() if "training.engine.forkserver" in c.cmdline()]
            engines = [c for c in servers[0].children() if is_running(c)] if servers else []
        except psutil.Error:
            return None
        return Slot(worker, servers[0] if servers else None, engines[0] if engines else None)

    def slots(self) -> list[Slot]:
        """Return every slot that runs."""
        found = [self.slot(f"slot-{number}") for number in range(self.slot_count)]
        return [slot for slot in found if slot is not None]

    def wipe_valkey(self) -> None:
        """Kill Valkey and delete its append-only file, so that it comes back knowing nothing."""
        self.child("valkey").kill()
        for path in (self.var / "services" / "valkey" / "data").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def stop(self) -> None:
        if hasattr(self, "_keeper"):
            self._supervisor.stopping.set()
            self._keeper.join(60)
        for disk in self.disks.values():
            disk.close()
        super().stop()
