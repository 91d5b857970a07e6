"""Start child processes that cannot outlive us, and end what an earlier run left behind. Knows no Django."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

# Runs between fork and exec, in a fresh interpreter instead of a preexec_fn (unsafe next to threads): asks Linux
# to signal the child when its parent dies by any means, gives up root if asked, then becomes the program.
_TRAMPOLINE = """
import ctypes, os, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
death_signal, parent, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if prctl:
    prctl(1, death_signal, 0, 0, 0)  # PR_SET_PDEATHSIG; after setuid, which would clear it
    if os.getppid() != parent:
        sys.exit(1)
os.execvp(sys.argv[5], sys.argv[5:])
"""


@dataclass(frozen=True)
class Account:
    """Hold the numeric ids a program runs under."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Launch:
    """Describe how to start one program in the foreground; `files` are open descriptors it inherits."""

    command: list[str]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    files: tuple[int, ...] = ()


def spawn(launch: Launch, *, output: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a program in its own process group, tied to the life of the calling thread.

    Linux delivers the parent-death signal when the *thread* that started the child ends: call this from a thread
    that lives as long as the child should, usually the main one. Standard error goes where `output` goes.
    """
    uid, gid = (launch.account.uid, launch.account.gid) if launch.account else (-1, -1)
    numbers = [str(int(launch.stop_signal)), str(os.getpid()), str(uid), str(gid)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, *numbers, *launch.command],
        cwd=launch.cwd,
        env={**os.environ, **launch.env},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        pass_fds=launch.files,
    )


def stop(process: subprocess.Popen[bytes], *, by: signal.Signals, grace: float) -> int:
    """Ask a child to stop, kill its whole process group after `grace` seconds, and return its exit status."""
    if process.poll() is None:
        process.send_signal(by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    kill_group(process)
    return process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a child's process group: the child itself and descendants that stayed in the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def end_leftovers(processes: Iterable[psutil.Process], *, by: signal.Signals, grace: float = 10.0) -> None:
    """End processes of an earlier run that are not our children: ask with `by`, then kill."""
    alive = list(processes)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(by)
    _, alive = psutil.wait_procs(alive, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process really runs: a zombie that nobody has collected yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_in(folder: Path) -> list[psutil.Process]:
    """List the running processes whose working folder is `folder`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(folder) and is_running(process):
                found.append(process)
    return found


def wait_until(condition: Callable[[], bool], *, timeout: float, step: float = 0.05) -> bool:
    """Poll a callable until it returns true; return False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(step)
    return condition()
