"""Fork one child per request and report its end on the connection the request came by."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1

Request = dict[str, Any]


def die_with_parent(parent: int, sig: int = signal.SIGKILL) -> None:
    """Ask the kernel to send ``sig`` to this process when its parent ends; end at once if it already did."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def answer(connection: socket.socket, message: dict[str, object]) -> bool:
    """Send one JSON line, and tell whether it was sent: the supervisor may have gone away."""
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return False
    return True


class Forks:
    """Hold the children of a server. The selector's data is what to call when a descriptor is ready."""

    def __init__(self, selector: selectors.BaseSelector, ended: Callable[[], object] = lambda: None) -> None:
        """``ended`` is called after each child's end was reported."""
        self._selector = selector
        self._after = ended
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def __len__(self) -> int:
        return len(self._children)

    def begin(self, request: Request, fds: list[int], connection: socket.socket) -> None:
        """Fork a child for a request and answer; the descriptors are the child's from now on."""
        pid = os.fork()
        if pid == 0:
            self._become_child(request, fds, connection)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here and there: whoever is told the pid may signal its group at once
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, connection)
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._ended(pidfd))
        if not answer(connection, {"pid": pid}):
            os.kill(pid, signal.SIGKILL)  # nobody knows of it, and nobody would renew its lease

    def close_inherited(self) -> None:
        """Close, in a fork of the server, what only the server is to hold."""
        for _, connection in self._children.values():
            connection.close()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fd)
            else:
                key.fileobj.close()  # type: ignore[attr-defined]
        self._selector.close()

    def _become_child(self, request: Request, fds: list[int], connection: socket.socket) -> NoReturn:
        code = 70
        try:
            parent = os.getppid()
            os.setpgid(0, 0)
            die_with_parent(parent)
            connection.close()
            self.close_inherited()
            events, control, log = fds
            os.dup2(log, 1)
            os.dup2(log, 2)
            from training.engine.child import run

            resume = request.get("resume_from")
            code = run(
                Path(str(request["spec"])), Path(str(request["run_dir"])), resume_from=Path(resume) if resume else None,
                events_fd=events, control_fd=control,
            )  # fmt: skip
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _ended(self, pidfd: int) -> None:
        pid, connection = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        answer(connection, {"exit": os.waitstatus_to_exitcode(status)})
        connection.close()
        self._after()
