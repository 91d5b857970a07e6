"""Run recurring duties on one machine at a time, whatever number of clocks is started.

An app names its duties with `@every` in a module that its `AppConfig.ready()` imports:

    @every(10)
    def reap_expired_leases() -> None: ...

`manage.py tick` runs them. A duty never overlaps itself, its failure is logged and changes nothing for the others,
and it must bear being run once more or once less than the clock says.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import F
from django.utils import timezone
from psycopg import conninfo

logger = logging.getLogger("core.periodic")

# Any constant will do, as long as nobody else in this database uses it: "LF" and "tick" as bytes.
LOCK_KEY = 0x4C46_7469_636B

Run = Callable[[], object]


@dataclass(frozen=True)
class Duty:
    """Name something to do every so many seconds."""

    name: str
    seconds: float
    run: Run


_duties: dict[str, Duty] = {}


def every(seconds: float) -> Callable[[Run], Run]:
    """Register the decorated function as a duty due every `seconds`, the first time at once."""
    if seconds <= 0:
        raise ValueError("a duty needs a positive number of seconds")

    def register(run: Run) -> Run:
        name = f"{run.__module__}.{getattr(run, '__qualname__', repr(run))}"
        _duties[name] = Duty(name, seconds, run)
        return run

    return register


def duties() -> list[Duty]:
    """Return every registered duty, by name."""
    return [_duties[name] for name in sorted(_duties)]


class Leadership:
    """Hold the one lock that makes a clock the active one, on a database session of its own.

    The lock lives as long as the session: when the process dies or loses the database, another clock takes over.
    The session must reach Postgres itself; through a pooler in transaction mode such a lock means nothing.
    """

    def __init__(self) -> None:
        self._session: psycopg.Connection[tuple[object, ...]] | None = None

    def held(self) -> bool:
        """Tell whether this clock is the active one now; try to become it if not."""
        try:
            if self._session is None:
                self._session = self._connect()
            if self._holds_lock(self._session):
                return True
            row = self._session.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
            return bool(row and row[0])
        except psycopg.Error as error:
            logger.warning("The clock has no database: %s", error)
            self.give_up()
            return False

    def give_up(self) -> None:
        """Close the session, and with it the lock."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @staticmethod
    def _connect() -> psycopg.Connection[tuple[object, ...]]:
        parameters = connection.get_connection_params()
        names = ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert")
        # Found dead within 15 s even if the other side vanished without a word.
        address = conninfo.make_conninfo(
            "",
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=5,
            keepalives_count=2,
            tcp_user_timeout=10_000,
            application_name="lora-foundry-tick",
            **{name: parameters[name] for name in names if name in parameters},
        )
        return psycopg.connect(address, autocommit=True)

    @staticmethod
    def _holds_lock(session: psycopg.Connection[tuple[object, ...]]) -> bool:
        # Asked of the server, not remembered: advisory locks nest, and a second take would need a second release.
        query = """
            SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
            AND ((classid::bigint << 32) | objid::bigint) = %s
        """
        return session.execute(query, [LOCK_KEY]).fetchone() is not None


class Clock:
    """Run due duties while this clock is the active one."""

    def __init__(self, *, threads: int = 4) -> None:
        self.leadership = Leadership()
        self.active = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="duty")
        self._due: dict[str, float] = {}
        self._running: dict[str, Future[None]] = {}

    def run(self, stopping: threading.Event, *, pause: float = 0.5) -> None:
        """Tick until `stopping` is set, then let running duties finish and give the lock back."""
        while not stopping.is_set():
            self.tick()
            stopping.wait(pause)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.leadership.give_up()

    def tick(self) -> None:
        """Start every duty that is due, if this clock is the active one."""
        active = self.leadership.held()
        if active != self.active:
            logger.info("This clock is %s.", "active" if active else "standing by")
            self.active = active
        if not active:
            return
        now = time.monotonic()
        for duty in duties():
            running = self._running.get(duty.name)
            if now >= self._due.get(duty.name, 0.0) and (running is None or running.done()):
                self._due[duty.name] = now + duty.seconds
                self._running[duty.name] = self._pool.submit(perform, duty)


class Tally:
    """Count runs in memory and write them down every half minute for each duty, at once after a failure."""

    EVERY = 30.0

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int, float]] = {}
        self._written: dict[str, float] = {}

    def note(self, name: str, seconds: float, error: str) -> None:
        """Count one run of the duty `name`; what cannot be written now is written with a later one."""
        runs, failures, spent = self._counts.get(name, (0, 0, 0.0))
        self._counts[name] = counts = (runs + 1, failures + bool(error), spent + seconds)
        now = time.monotonic()
        if not error and now - self._written.get(name, float("-inf")) < self.EVERY:
            return
        try:
            self._write(name, counts, error)
        except DatabaseError as failure:
            logger.warning("runs of %s are not written down: %s", name, failure)
            return
        self._written[name] = now
        del self._counts[name]

    @staticmethod
    def _write(name: str, counts: tuple[int, int, float], error: str) -> None:
        from core.models import DutyRun

        runs, failures, seconds = counts
        DutyRun.objects.get_or_create(name=name, defaults={"last_at": timezone.now()})
        changes: dict[str, object] = {
            "runs": F("runs") + runs,
            "failures": F("failures") + failures,
            "seconds": F("seconds") + seconds,
            "last_at": timezone.now(),
        }
        if error:
            changes["last_error"] = error
        DutyRun.objects.filter(name=name).update(**changes)


_tally = Tally()


def perform(duty: Duty) -> None:
    """Run one duty once: time it, log its failure, leave no database connection behind."""
    began = time.monotonic()
    close_old_connections()
    error = ""
    try:
        duty.run()
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"[:500]
        logger.exception("%s failed", duty.name)
    seconds = time.monotonic() - began
    _tally.note(duty.name, seconds, error)
    connection.close()
    if seconds > duty.seconds:
        logger.warning("%s took %.1f s and is due every %g s", duty.name, seconds, duty.seconds)
    else:
        logger.debug("%s took %.3f s", duty.name, seconds)
