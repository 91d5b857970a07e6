"""Supervise one attempt: prepare its folder, start the engine, carry wishes to it, store what it tells, end it.

Threads: the caller's decides and writes; those of the engine's process read it and wait for its end; one keeps the
lease (`training.keeper`). Only the keeper may say that the lease is lost, and it kills the engine itself then.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from training import engine_process
from training.base_model_cache import Progress
from training.engine import events as told
from training.engine_process import DRAIN, EXIT_DONE, EXIT_INTERRUPTED, GRACE, Engine, Ladder
from training.keeper import Keeper
from training.models import TrainingJob
from training.orders import MissingPart
from training.queue.lease import Lease
from training.run_folder import RunFolder, prepare, remove, run_path
from training.services import finalize, lifecycle, telemetry
from training.services.lifecycle import CrashReport, LeaseLost
from training.states import Desired, JobState
from training.warm import WarmEngine
from training.worker_cache import DamagedBlob

log = logging.getLogger(__name__)
T = TypeVar("T")

MAKES_ROOM = (Desired.PREEMPT, Desired.YIELD)
STALL_SECONDS, STALL_STEPS = 600.0, 20
# How long storing goes on trying while database or storage are away; the lease usually ends it sooner.
PATIENCE = 1800.0


class Unwanted(Exception):
    """Say that the attempt ends before an engine is started."""


class Runner:
    """Run one claimed job to the end of this attempt.

    `draining` tells that the worker wants to go; the engine then has `drain_seconds` to save a checkpoint. One that
    needs longer is ended, and the job goes on from the checkpoint before: no crash is counted.
    """

    def __init__(
        self, lease: Lease, warm: WarmEngine, draining: threading.Event, *, drain_seconds: float = GRACE
    ) -> None:
        self.lease = lease
        self.draining = draining
        self._warm = warm
        self._keeper = Keeper(lease)
        self._ladder = Ladder(drain_seconds)
        self._engine: Engine | None = None
        self._step = 0
        self._total_steps = 0
        self._is_short = False
        self._speed = 0.0
        self._heard = time.monotonic()
        self._stalled = False
        self._error: told.Error | None = None
        self._export: told.Export | None = None
        self._done: told.Done | None = None
        # The code of the crash this attempt ended with, "" for any other end.
        self.crash = ""

    def run(self) -> None:
        """Run the attempt. Returns when the row tells its end, or when the lease is lost; raises nothing."""
        try:
            self._run()
        except LeaseLost:
            log.warning("%s #%s: the lease is lost", self.lease.job_uid, self.lease.fence)
        except Exception as error:
            log.exception("%s #%s: the supervisor failed", self.lease.job_uid, self.lease.fence)
            self._kill()
            with contextlib.suppress(LeaseLost, DatabaseError):
                self._crash("supervisor_failed", f"{type(error).__name__}: {error}")
        finally:
            self._kill()
            self._keeper.stop()
            remove(self.lease)

    def _run(self) -> None:
        job = self._patiently(self._load)
        self._total_steps, self._is_short = job.total_steps, job.is_short
        try:
            self._go_on()
            folder = prepare(self.lease, job, self._fetching())
            self._go_on()
        except Unwanted:
            self._conclude()
            return
        except MissingPart as error:
            report = CrashReport(code="part_missing", message=str(error), category="user")
            self._end(lambda job: lifecycle.fail_job(job, report))
            return
        except DamagedBlob as error:
            self._crash("storage_damaged", str(error))
            return
        except OSError as error:
            self._crash("storage_unavailable", f"The pictures could not be fetched: {error}")
            return
        try:
            self._start(folder)
        except (OSError, RuntimeError) as error:
            self._crash("engine_not_ready", f"The engine could not be started: {error}")
            return
        self._supervise()
        if self._keeper.lost.is_set():
            raise LeaseLost
        self._conclude()

    def _load(self) -> TrainingJob:
        job: TrainingJob = (
            TrainingJob.jobs.for_team(self.lease.team)
            .select_related("dataset_version", "foundation_model", "team")
            .get(pk=self.lease.job_id)
        )
        return job

    def _fetching(self) -> Progress:
        """Return what is told after each picture and file: a wish ends the fetching, as a lost lease does."""
        tell = _Throttled(self._tell_fetching)

        def fetched(done: int, total: int, phase: str = "fetch_data") -> None:
            self._go_on()
            tell(done, total, phase)

        return fetched

    def _tell_fetching(self, done: int, total: int, phase: str) -> None:
        gauges = {"phase": phase, "phase_done": done, "phase_total": total}
        data = {"phase": phase, "done": done, "total": total}
        self._patiently(lambda: telemetry.note(self.lease, "phase", data, **gauges))

    # -- The engine -------------------------------------------------------------------------------------------

    def _start(self, folder: RunFolder) -> None:
        self._engine = engine_process.start(self._warm, folder, slots=self.lease.slots)
        self._keeper.attach(self._engine)
        self._heard = time.monotonic()

    def _supervise(self) -> None:
        engine = self._engine
        assert engine is not None
        while not self._keeper.lost.is_set():
            batch = self._next_batch(engine)
            if batch:
                self._heard = time.monotonic()
                self._take(batch)
            elif engine.ended:
                return
            self._deliver(engine)
            self._watch(engine)

    def _next_batch(self, engine: Engine) -> list[telemetry.Told]:
        batch: list[telemetry.Told] = []
        for line in engine.next_lines():
            try:
                batch.append(told.from_line(line.decode("utf-8")))
            except (ValueError, KeyError) as error:
                log.warning("%s: an event was not understood: %s", self.lease.job_uid, error)
        return batch

    def _take(self, batch: list[telemetry.Told]) -> None:
        for event, _at in batch:
            if isinstance(event, told.Plan):
                self._total_steps, self._step = event.total_steps, event.resumed_from_step
            elif isinstance(event, told.Metrics):
                self._step, self._speed = event.step, event.steps_per_second
            elif isinstance(event, told.Error):
                self._error = event
            elif isinstance(event, told.Export):
                self._export = event
            elif isinstance(event, told.Done):
                self._done = event
                self._step = event.step
        run_dir = run_path(self.lease)
        self._keeper.desired = self._patiently(lambda: telemetry.record(self.lease, run_dir, batch))

    # -- Wishes -----------------------------------------------------------------------------------------------

    def _wanted(self) -> str:
        """Return the strongest wish: of the people first, then the worker's own."""
        if self._keeper.desired:
            return self._keeper.desired
        return DRAIN if self.draining.is_set() else ""

    def _go_on(self) -> None:
        """Raise Unwanted if the attempt ends before an engine is started; "stop and keep" needs one for the file."""
        if self._keeper.lost.is_set():
            raise LeaseLost
        if self._wanted() in (Desired.CANCEL, Desired.PAUSE, *MAKES_ROOM, DRAIN):
            raise Unwanted

    def _deliver(self, engine: Engine) -> None:
        wanted = self._wanted()
        # An engine that stops before its first step has nothing to keep.
        if wanted == Desired.STOP and not self._step:
            return
        if not wanted or wanted == self._ladder.asked:
            self._ladder.climb(engine)
            return
        self._ladder.ask(engine, wanted)
        if wanted != DRAIN:
            self._patiently(self._start_stopping)

    def _start_stopping(self) -> None:
        with transaction.atomic():
            job = lifecycle.hold(self.lease)
            if job.state in (JobState.STARTING, JobState.RUNNING):
                lifecycle.move(job, JobState.STOPPING)

    def _watch(self, engine: Engine) -> None:
        """Kill an engine that says nothing for far longer than its steps take."""
        limit = max(STALL_SECONDS, STALL_STEPS / self._speed if self._speed else 0.0)
        if not self._stalled and time.monotonic() - self._heard > limit:
            self._stalled = True
            engine.signal(signal.SIGKILL)

    # -- The end ----------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """Write the attempt's end, once the engine is gone (or was never started)."""
        code = self._engine.exit_code if self._engine else None
        wanted = self._keeper.desired
        if wanted == Desired.CANCEL:
            self._end(lifecycle.cancel_job_now)
        elif code == EXIT_DONE and self._export is not None:
            self._finalize(self._export)
        elif code == EXIT_DONE and self._is_short and self._done is not None:
            self._end(finalize.complete_short)
        elif self._error is not None and self._error.category != "platform":
            self._fail(self._error)
        elif wanted == Desired.PAUSE and (code is None or code == EXIT_INTERRUPTED or self._ladder.asked):
            self._end(lifecycle.pause_job_now)
        elif wanted in MAKES_ROOM and (code is None or code == EXIT_INTERRUPTED or self._ladder.asked):
            has_saved = code is None or code == EXIT_INTERRUPTED
            self._end(lambda job: lifecycle.preempt_job_now(job, has_saved=has_saved))
        elif code is None or self._ladder.overdue or (self.draining.is_set() and code == EXIT_INTERRUPTED):
            self._end(lambda job: lifecycle.requeue_job(job, "worker_restarts"))
        else:
            self._report_crash(code)

    def _finalize(self, export: told.Export) -> None:
        step = self._done.step if self._done else self._step
        stopped = step < self._total_steps
        self._patiently(lambda: finalize.start_finalizing(self.lease))
        try:
            self._patiently(
                lambda: finalize.complete(
                    self.lease, run_path(self.lease), export, step=step, stopped=stopped
                )
            )
        except finalize.DamagedExport as error:
            self._crash("export_damaged", f"The file changed on its way into storage: {error}")

    def _fail(self, error: told.Error) -> None:
        report = CrashReport(
            code=error.code,
            message=error.message,
            category=error.category,
            hint=error.hint or "",
            patch=error.patch,
            log=self._log_lines(),
        )
        self._end(lambda job: lifecycle.fail_job(job, report))

    def _report_crash(self, code: int) -> None:
        if self._stalled:
            self._crash("engine_stalled", "The training made no progress and was ended.")
        elif self._error is not None:
            error = self._error
            self._crash(error.code, error.message, hint=error.hint or "")
        elif code < 0:
            self._crash("engine_killed", f"The training process was ended by signal {-code}.")
        elif code == EXIT_INTERRUPTED:
            self._crash("engine_interrupted", "The training process was interrupted from outside.")
        else:
            self._crash("engine_crashed", f"The training process ended with status {code}.")

    def _crash(self, code: str, message: str, *, hint: str = "") -> None:
        self.crash = code
        report = CrashReport(code=code, message=message, hint=hint, log=self._log_lines())
        self._end(lambda job: lifecycle.crash_job(job, report))

    def _end(self, write: Callable[[TrainingJob], None]) -> None:
        def once() -> None:
            with transaction.atomic():
                write(lifecycle.hold(self.lease))

        self._patiently(once)

    def _log_lines(self) -> list[str]:
        return list(self._engine.log) if self._engine else []

    def _kill(self) -> None:
        if self._engine is None:
            return
        self._engine.signal(signal.SIGKILL)
        self._engine.close()

    def _patiently(self, write: Callable[[], T]) -> T:
        """Call `write` again while database or storage are away, unless the lease is lost meanwhile."""
        began, pause = time.monotonic(), 0.5
        while True:
            if self._keeper.lost.is_set():
                raise LeaseLost
            try:
                return write()
            except FileNotFoundError:
                raise
            except (OperationalError, InterfaceError, OSError) as error:
                if time.monotonic() - began > PATIENCE:
                    raise
                log.warning("%s: waiting to store: %s", self.lease.job_uid, error)
            connection.close()
            time.sleep(pause)
            pause = min(10.0, pause * 2)


class _Throttled:
    """Pass progress on at most twice a second, and the end always."""

    def __init__(self, tell: Callable[[int, int, str], None]) -> None:
        self._tell = tell
        self._told = float("-inf")

    def __call__(self, done: int, total: int, phase: str) -> None:
        if done == total or time.monotonic() - self._told >= 0.5:
            self._told = time.monotonic()
            self._tell(done, total, phase)
