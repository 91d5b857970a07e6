"""Keep the lease of one attempt in a thread of its own: renew it, pass it on to the engine, learn what is wanted."""

from __future__ import annotations

import logging
import signal
import threading
import time

from django.conf import settings
from django.db import DatabaseError, connection

from training.engine_process import Engine
from training.queue import lease as leases
from training.queue.lease import Lease

log = logging.getLogger(__name__)

WISH_EVERY = 1.0


class Keeper:
    """Renew the lease, pass it on to the engine, and learn what is wanted of the job."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.desired = ""
        self.lost = threading.Event()
        self.engine: Engine | None = None
        self._stop = threading.Event()
        self._renewed = float("-inf")
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the lease stays as it is."""
        self._stop.set()
        self._thread.join()

    def attach(self, engine: Engine) -> None:
        """Give the engine its first lease message, which arms its dead-man's switch."""
        self.engine = engine
        self._renewed = float("-inf")

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self.lost.is_set():
                try:
                    self._once()
                except DatabaseError as error:
                    # The engine's own switch ends the run if this lasts: no lease message, no work.
                    log.warning("%s: the lease could not be renewed: %s", self.lease.job_uid, error)
                    connection.close()
                self._stop.wait(min(WISH_EVERY, settings.LEASE_RENEW_SECONDS / 4))
        finally:
            connection.close()

    def _once(self) -> None:
        before = time.monotonic()
        if before - self._renewed < settings.LEASE_RENEW_SECONDS:
            desired = leases.wish(self.lease)
        else:
            engine = self.engine
            desired = leases.renew(self.lease)
            if desired is not None:
                self._renewed = before
                # Counted from before the statement: the engine must give up before the lease does.
                until = before + settings.ENGINE_LEASE_SECONDS
                if engine is not None and (left := until - time.monotonic()) > 0:
                    engine.send("lease", ttl=left, until=until)
                if engine is not self.engine:
                    self._renewed = float("-inf")
        if desired is None:
            self.lost.set()
            if self.engine is not None:
                self.engine.signal(signal.SIGKILL)
            return
        self.desired = desired
