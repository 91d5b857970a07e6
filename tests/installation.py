"""A whole installation for a test: `manage.py up` as a child process, with a data folder of its own."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from core.processes import is_running, wait_until
from core.services_local import free_port

ROOT = Path(__file__).resolve().parents[1]
START = 240  # generous: the machine may be busy with other tests


def open_folder() -> Path:
    """Make a data folder that other accounts may pass through: as root, PostgreSQL runs as another user.

    Not under pytest's own temporary folder, which every new test session shuts to other accounts again.
    """
    folder = Path(tempfile.mkdtemp(prefix="lora-foundry-var-"))
    folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    return folder


class Installation:
    """One running `manage.py up` on a data folder of its own, without the demo and without a training worker."""

    options: tuple[str, ...] = ("--no-demo", "--no-training")
    settings: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.var = var = open_folder()
        self.port = free_port()
        self.output = var / "output.txt"
        hidden = ("DATABASE_URL", "REDIS_URL", "PYTEST_", "DJANGO_SETTINGS_MODULE", "LF_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.env |= {"LF_VAR_DIR": str(var), **self.settings}
        self.process = self.begin()

    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), "up", *self.options, "--port", str(self.port)]

    def begin(self) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                self.command(),
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.var,
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def status(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def children(self) -> dict[int, psutil.Process]:
        return {p.pid: p for p in psutil.Process(self.process.pid).children(recursive=True) if is_running(p)}

    def all_with(self, *words: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.process.pid).children():
            line = " ".join(process.cmdline())
            if is_running(process) and all(word in line for word in words):
                found.append(process)
        return found

    def child(self, *words: str) -> psutil.Process:
        for process in self.all_with(*words):
            return process
        raise LookupError(f"no child with {words}")

    def kill_web(self) -> None:
        """Kill every web process at once, as a machine that fails would."""
        for process in self.all_with("config.web"):
            process.kill()

    def has_child(self, *words: str) -> bool:
        try:
            return bool(self.child(*words))
        except (LookupError, psutil.NoSuchProcess):
            return False

    def wait_until_ready(self) -> None:
        """Wait for the line that names the address, or for the end of the process."""
        wait_until(
            lambda: "LoRA Foundry runs at" in self.text() or self.process.poll() is not None, timeout=START
        )
        assert f"http://127.0.0.1:{self.port}" in self.text(), self.text()

    def stop(self) -> None:
        """Stop it as Ctrl-C would."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.var, ignore_errors=True)


class WholeInstallation(Installation):
    """Everything: the demo and the training worker too."""

    options = ()


Kind = TypeVar("Kind", bound=Installation)


@contextmanager
def running(kind: type[Kind]) -> Iterator[Kind]:
    """Start an installation, give it when it is ready, and stop it in the end."""
    installation = kind()
    try:
        installation.wait_until_ready()
        yield installation
    finally:
        installation.stop()
