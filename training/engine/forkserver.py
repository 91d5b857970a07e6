"""A ready process that has imported everything and forks one child per request, so that a run starts at once.

``python -m training.engine.forkserver --socket PATH``. Importing torch, diffusers, transformers and peft takes 5 to
25 seconds; a fork of this process takes hundredths. The protocol is in docs/engine-protocol.md. The server computes
nothing itself: a fork of a process whose OpenMP threads already run would hang at its first parallel loop.
"""

from __future__ import annotations

import argparse
import array
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from training.engine import resident
from training.engine.child import prepare_environment
from training.engine.forks import Forks, Request, answer, die_with_parent
from training.engine.holder import Holder
from training.engine.resident import Base

REQUEST_LIMIT = 65536
ANSWER_SECONDS = 60.0
"""A server that has not answered a request by then never will: it forks at once or not at all."""


class Server:
    """Accept requests on a Unix socket, fork, and report each child's end on its connection.

    With ``resident_mb`` the base model of the last run is kept in memory by a `Holder`, if it takes no more than that.
    """

    def __init__(self, path: Path, *, resident_mb: int = 0) -> None:
        self._selector = selectors.DefaultSelector()
        self._forks = Forks(self._selector)
        self._holder: Holder | None = None
        self._wanted: Base | None = None
        self._wanted_bytes = 0
        self._resident_mb = resident_mb
        self._notes = resident.open_notes()
        self._selector.register(self._notes, selectors.EVENT_READ, self._read_note)
        # It gets its name when it listens: who waits for the name would be refused before.
        unnamed = path.with_name(f"{path.name}.new")
        unnamed.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o077)
        try:
            self._listener.bind(str(unnamed))
        finally:
            os.umask(mask)
        self._listener.listen(16)
        unnamed.replace(path)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def serve(self) -> NoReturn:
        """Serve for ever."""
        while True:
            for ready, _ in self._selector.select():
                ready.data()
            self._tend_holder()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        try:
            request, fds = _receive(connection)
        except (OSError, ValueError) as error:
            answer(connection, {"error": str(error)})
            connection.close()
            return
        if self._holder is None or not self._holder.hand_over(request, fds, connection):
            self._forks.begin(request, fds, connection)

    def _read_note(self) -> None:
        note = json.loads(self._notes.recv(resident.NOTE_LIMIT))
        resident.digests.update(note.get("digests", {}))
        if "base" in note:
            fits = note["bytes"] <= self._resident_mb * 2**20
            self._wanted, self._wanted_bytes = Base(**note["base"]) if fits else None, note["bytes"]

    def _tend_holder(self) -> None:
        """While no run is under way, have the base model of the last one held."""
        holder = self._holder
        if holder is not None and holder.has_ended:
            # It failed or was killed, perhaps for its memory: not again before a run has loaded a base model.
            holder = self._holder = None
            self._wanted = None
        if len(self._forks) or (holder is not None and (holder.runs or holder.base == self._wanted)):
            return
        if holder is not None and self._wanted is not None:
            holder.dismiss()
            holder = self._holder = None
        if holder is None and self._wanted is not None:
            if 2 * self._wanted_bytes > resident.available_mb() * 2**20:  # loading takes up to twice as much
                self._wanted = None
                return
            self._holder = Holder(self._wanted, self._selector, self._forks)


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """Read one request line with its three descriptors."""
    connection.settimeout(5.0)
    fds = array.array("i")
    data = b""
    while not data.endswith(b"\n"):
        part, ancillary, _, _ = connection.recvmsg(REQUEST_LIMIT, socket.CMSG_SPACE(3 * fds.itemsize))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        data += part
        if not part or len(data) > REQUEST_LIMIT:
            raise ValueError("the request is not one JSON line")
    request = json.loads(data)
    if not isinstance(request, dict) or "spec" not in request or "run_dir" not in request or len(fds) != 3:
        for fd in fds:
            os.close(fd)
        raise ValueError("a request needs spec, run_dir and three descriptors: events, control, log")
    return request, list(fds)


class Ticket:
    """Be a started child, as seen by the supervisor."""

    def __init__(self, connection: socket.socket, *, patience: float = ANSWER_SECONDS) -> None:
        """Wait for the first answer; raise TimeoutError after ``patience`` seconds, RuntimeError for a refusal."""
        self._connection = connection
        self._buffer = b""
        first = self._read(patience)
        if first is None:
            raise TimeoutError(f"the ready engine did not answer within {patience:g} s")
        if "pid" not in first:
            raise RuntimeError(f"the ready engine refused: {first.get('error', 'no answer')}")
        self.pid: int = first["pid"]

    def _read(self, timeout: float | None) -> dict[str, Any] | None:
        """Return the next answer, an empty one when the server is gone, None after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._connection], [], [], left)[0]:
                return None
            try:
                data = self._connection.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                return {}
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the child has ended."""
        return self._connection.fileno()

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code (negative: signal); None after ``timeout`` seconds; -9 if the server died."""
        answer = self._read(timeout)
        if answer is None:
            return None
        self._connection.close()
        code = answer.get("exit")
        return code if isinstance(code, int) else -signal.SIGKILL


def start_child(
    socket_path: Path, *, spec: Path, run_dir: Path, events_fd: int, control_fd: int, log_fd: int,
    resume_from: Path | None = None, patience: float = ANSWER_SECONDS,
) -> Ticket:  # fmt: skip
    """Ask a server to fork a run. The caller closes its copies of the three descriptors afterwards.

    Raise TimeoutError if it does not answer within ``patience`` seconds, RuntimeError if it refuses, other OSError if
    it is dead.
    """
    request = {
        "spec": str(spec),
        "run_dir": str(run_dir),
        "resume_from": str(resume_from) if resume_from else None,
    }
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(patience)
        connection.connect(str(socket_path))
        line = json.dumps(request).encode() + b"\n"
        socket.send_fds(connection, [line], [events_fd, control_fd, log_fd])
        return Ticket(connection, patience=patience)
    except BaseException:
        connection.close()
        raise


def start_server(
    socket_path: Path, *, env: dict[str, str] | None = None, cwd: Path | None = None, resident_mb: int = 0
) -> subprocess.Popen[bytes]:
    """Start a server that dies with the calling thread; it takes requests once its socket is there.

    It keeps a base model of up to ``resident_mb`` MB in memory between runs; 0 for none.

    Call it from the main thread: the kernel's signal comes when the *thread* that started the server ends.
    """
    socket_path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "training.engine.forkserver", "--socket", str(socket_path), "--parent",
               str(os.getpid()), "--resident-mb", str(resident_mb)]  # fmt: skip
    return subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL)


def import_everything() -> None:
    """Import what a run will need and load a tiny model once, so that lazily made things are there before the fork.

    One thread only: OpenMP must not have started its own when the process is forked.
    """
    import torch
    import torch._dynamo

    import training.engine.api  # noqa: F401
    from training.engine import registry
    from training.engine.spec import DatasetSpec, RunSpec, TrainedBaseSpec

    torch.set_num_threads(1)
    spec = RunSpec("rehearsal", TrainedBaseSpec("."), DatasetSpec(folder="."))
    family = registry.load_family("sd")
    with tempfile.TemporaryDirectory() as folder:
        family.save(family.tiny(), Path(folder))
        parts = family.load(Path(folder), device=torch.device("cpu"), dtype=torch.float32)
    family.sampler(parts, 2, family.latent_shape(parts, 32, 32))
    registry.load_method("lora").attach(family, parts, spec)
    del parts
    # What lives now lives for ever: the collector of a child never walks (and copies) it again.
    gc.collect()
    gc.freeze()


def main(arguments: list[str] | None = None) -> int:
    """Import, then serve."""
    parser = argparse.ArgumentParser(prog="training.engine.forkserver", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=os.getppid())
    parser.add_argument(
        "--resident-mb", type=int, default=0, help="keep a base model of up to so many MB in memory"
    )
    options = parser.parse_args(arguments)
    # Ctrl-C and a service manager reach the whole process group; the children, which die with this process, are to
    # save first. The supervisor ends it, by SIGKILL. A child takes both signals for itself (`Control`).
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(options.parent)
    prepare_environment()
    from training.engine.child import quieten_libraries

    quieten_libraries()
    import_everything()
    Server(options.socket, resident_mb=options.resident_mb).serve()


if __name__ == "__main__":
    sys.exit(main())
