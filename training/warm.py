"""A ready engine: a process that has imported torch and its family once and forks a child for each run."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from django.conf import settings

from training.engine.forkserver import ANSWER_SECONDS, Ticket, start_child, start_server

log = logging.getLogger(__name__)

# Pauses between starts that failed, in seconds; the last one repeats.
_PAUSES = (1.0, 5.0, 15.0, 60.0)


class Launched:
    """Be a run in several processes, as `Ticket` is one in a single process: the process that started them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def wait(self) -> int:
        """Return the exit code (negative: signal)."""
        return self._process.wait()


class WarmEngine:
    """Keep one forkserver running. Use it from the main thread only.

    Linux ends the server when the *thread* that started it ends, so that thread must live as long as the worker.
    """

    def __init__(
        self,
        environment: dict[str, str] | None = None,
        *,
        niceness: int = 0,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        """`environment` is added to the server's (for instance CUDA_VISIBLE_DEVICES)."""
        # A Unix socket's path may have about 100 characters: the run folder may lie deeper than that.
        self._folder = Path(tempfile.mkdtemp(prefix="lora-foundry-"))
        self._socket = self._folder / "engine.sock"
        self._environment = environment or {}
        self._niceness = niceness
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Return the server's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def ensure(self) -> bool:
        """Start the server if it is not running, and tell whether it takes requests now."""
        if self._process is not None and self._process.poll() is not None:
            self._failures += 1
            pause = _PAUSES[min(self._failures, len(_PAUSES)) - 1]
            log.warning("the ready engine ended with status %s", self._process.returncode)
            self._process = None
            self._started = time.monotonic() + pause
        if self._process is None:
            if time.monotonic() >= self._started:
                self._start()
            return False
        if not self._socket.exists():
            return False
        if self._failures and time.monotonic() - self._started > 60:
            self._failures = 0
        return True

    def fork(
        self,
        *,
        spec: Path,
        run_dir: Path,
        resume_from: Path | None,
        events_fd: int,
        control_fd: int,
        log_fd: int,
    ) -> Ticket:
        """Start a run in a fresh child. The caller closes its copies of the descriptors.

        OSError if the server is dead, RuntimeError if it refuses. One that does not answer is ended (TimeoutError), so
        that it cannot start the run later, when nobody watches it; `ensure` then starts another.
        """
        try:
            return start_child(
                self._socket,
                spec=spec,
                run_dir=run_dir,
                resume_from=resume_from,
                events_fd=events_fd,
                control_fd=control_fd,
                log_fd=log_fd,
                patience=self._patience,
            )
        except TimeoutError:
            self._end()
            raise

    def launch(
        self,
        slots: tuple[int, ...],
        *,
        spec: Path,
        run_dir: Path,
        resume_from: Path | None,
        events_fd: int,
        control_fd: int,
        log_fd: int,
    ) -> Launched:
        """Start a run on several GPUs of this machine, by their numbers; it ends with the calling thread.

        Not out of the ready engine: each of its processes imports for itself. OSError if it cannot be started.
        """
        command = [sys.executable, "-m", "training.engine.launch", "--ranks", str(len(slots))]
        command += ["--spec", str(spec), "--run-dir", str(run_dir), "--parent", str(os.getpid())]
        command += ["--events-fd", str(events_fd), "--control-fd", str(control_fd)]
        if resume_from is not None:
            command += ["--resume-from", str(resume_from)]
        environment = self._server_environment()
        if "CUDA_VISIBLE_DEVICES" in self._environment:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, slots))
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(events_fd, control_fd),
            process_group=0,
        )
        if self._niceness:
            os.setpriority(os.PRIO_PROCESS, process.pid, self._niceness)
        return Launched(process)

    def stop(self) -> None:
        """End the server and its folder; its children end with it."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _server_environment(self) -> dict[str, str]:
        source = os.pathsep.join([str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": source, **self._environment}

    def _start(self) -> None:
        self._process = start_server(
            self._socket,
            env=self._server_environment(),
            cwd=settings.BASE_DIR,
            resident_mb=settings.RESIDENT_BASE_MB,
        )
        self._started = time.monotonic()
        if self._niceness:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self._niceness)
