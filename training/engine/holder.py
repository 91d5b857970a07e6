"""A process that holds a base model and forks the runs that begin with it.

The server forks it while no run is under way, and passes requests on to it once it has loaded. So loading delays
nobody, a load that fails or is killed for its memory costs one process that nobody needed yet, and the server itself
stays small. It ends when the server wants another base model, after its last run.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from training.engine import resident
from training.engine.forks import Forks, Request, die_with_parent
from training.engine.resident import Base

READY, TAKEN, ENDED = b"ready", b"taken", b"ended"
REQUEST_LIMIT = 131072


class Holder:
    """Be the holder, as the server sees it."""

    def __init__(self, base: Base, selector: selectors.BaseSelector, forks: Forks) -> None:
        """Fork a process that loads ``base``; ``forks`` are the server's own, for requests that it leaves."""
        self.base = base
        self.is_ready = False
        self.has_ended = False
        self.runs = 0
        self._selector = selector
        self._forks = forks
        self._given: deque[tuple[Request, list[int], socket.socket]] = deque()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._socket.close()
            _hold(base, theirs, forks.close_inherited)
        theirs.close()
        pidfd = os.pidfd_open(self._pid)
        selector.register(pidfd, selectors.EVENT_READ, lambda: self._ended(pidfd))
        selector.register(self._socket, selectors.EVENT_READ, self._hear)

    def hand_over(self, request: Request, fds: list[int], connection: socket.socket) -> bool:
        """Let it fork a request's child, and tell whether it is the one to do so."""
        if not self.is_ready or base_folder(request) != self.base.folder:
            return False
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [connection.fileno(), *fds])
        except OSError:
            return False
        self.runs += 1
        self._given.append((request, fds, connection))
        return True

    def dismiss(self) -> None:
        """Have it end: at once while it loads, else after its last run."""
        if not self.is_ready:
            os.kill(self._pid, signal.SIGKILL)
        self._forget_socket()

    def _hear(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            said = self._socket.recv(64)
        except OSError:  # killed before it had taken everything
            said = b""
        if said == READY:
            self.is_ready = True
        elif said == TAKEN:
            _, fds, connection = self._given.popleft()
            connection.close()
            for fd in fds:
                os.close(fd)
        elif said == ENDED:
            self.runs -= 1
        else:
            self._forget_socket()

    def _ended(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        os.waitpid(self._pid, 0)
        while self._socket.fileno() >= 0:  # what it has still said
            self._hear()
        self.has_ended = True
        for request, fds, connection in self._given:
            self._forks.begin(request, fds, connection)

    def _forget_socket(self) -> None:
        self.is_ready = False
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()


def base_folder(request: Request) -> str | None:
    """Return the folder of the base model that a request's specification names, None if it does not say."""
    try:
        order = json.loads(Path(str(request["spec"])).read_text(encoding="utf-8"))
        spec = order.get("spec", order)  # short work has its specification inside of its order
        return str(Path(spec["base_model"]["path"]).resolve())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the run itself says what is wrong with it


def _hold(base: Base, server: socket.socket, close_inherited: Callable[[], None]) -> NoReturn:
    """Load, then fork a run for each request, until the server hangs up."""
    try:
        die_with_parent(os.getppid())
        close_inherited()
        resident.hold(base)
        gc.collect()
        gc.freeze()  # as in the server: a run's collector never walks it
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:  # a fork has only the thread that forks: locks of the others would stay locked
            raise RuntimeError(f"loading left {threads - 1} threads")
        server.send(READY)
        _serve(server)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _serve(server: socket.socket) -> None:
    selector = selectors.DefaultSelector()

    def tell_ended() -> None:
        if server.fileno() in selector.get_map():
            server.send(ENDED)

    forks = Forks(selector, tell_ended)

    def take() -> None:
        data, fds, _, _ = socket.recv_fds(server, REQUEST_LIMIT, 4)
        if not data:
            selector.unregister(server)
            return
        connection = socket.socket(fileno=fds[0])
        connection.settimeout(5.0)
        # Before the fork: if this process is killed now the run fails, but it cannot come to be twice.
        server.send(TAKEN)
        forks.begin(json.loads(data), list(fds[1:]), connection)

    selector.register(server, selectors.EVENT_READ, take)
    while selector.get_map():
        for ready, _ in selector.select():
            ready.data()
