"""`manage.py up` as a whole: it comes up, heals what is killed, refuses a second start, and leaves nothing behind."""

from __future__ import annotations

import http.client
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.processes import is_running, wait_until
from core.services_local import free_port

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
START = 180  # generous: the machine may be busy with other tests


class Up:
    """One running `manage.py up` on a data folder of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.port = free_port()
        self.output = var / "output.txt"
        hidden = ("DATABASE_URL", "REDIS_URL", "PYTEST_", "DJANGO_SETTINGS_MODULE", "LF_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.env["LF_VAR_DIR"] = str(var)
        self.process = self.begin()

    def command(self) -> list[str]:
        options = ["--no-demo", "--no-training", "--port", str(self.port)]
        return [sys.executable, str(ROOT / "manage.py"), "up", *options]

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

    def child(self, *words: str) -> psutil.Process:
        for process in psutil.Process(self.process.pid).children():
            line = " ".join(process.cmdline())
            if is_running(process) and all(word in line for word in words):
                return process
        raise LookupError(f"no child with {words}")

    def has_child(self, *words: str) -> bool:
        try:
            return bool(self.child(*words))
        except (LookupError, psutil.NoSuchProcess):
            return False


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    if os.geteuid() == 0:  # PostgreSQL runs as another user then
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    up = Up(tmp_path)
    yield up
    up.process.send_signal(signal.SIGTERM)
    try:
        up.process.wait(30)
    except subprocess.TimeoutExpired:
        up.process.kill()


def test_it_comes_up_heals_refuses_a_second_start_and_stops_clean(up: Up) -> None:
    assert wait_until(
        lambda: "LoRA Foundry runs at" in up.text() or up.process.poll() is not None, timeout=START
    )
    assert f"http://127.0.0.1:{up.port}" in up.text()
    assert up.status() == 200

    second = subprocess.run(up.command(), env=up.env, cwd=up.var, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"It runs already (process {up.process.pid}) at http://127.0.0.1:{up.port}." in second.stderr

    for words in (["uvicorn"], ["dramatiq"], ["manage.py", "tick"], ["postgres", "-D"], ["valkey"]):
        victim = up.child(*words)
        victim.kill()
        assert wait_until(lambda victim=victim: not is_running(victim), timeout=10)  # type: ignore[misc]
        assert wait_until(lambda words=words: up.has_child(*words), timeout=90), words  # type: ignore[misc]
    assert wait_until(lambda: up.status() == 200, timeout=START)
    assert up.text().count("was killed by signal 9") == 5

    children = up.children()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(45) == 0  # seconds; under five on an idle machine
    assert [p for p in children.values() if is_running(p)] == []
    assert up.text().rstrip().endswith("Everything is stopped.")


def test_nothing_outlives_a_kill_and_the_next_start_needs_no_help(up: Up) -> None:
    assert wait_until(lambda: up.status() == 200, timeout=START)
    children = up.children()
    up.process.kill()
    up.process.wait()
    if sys.platform == "linux":
        gone = wait_until(lambda: not any(is_running(p) for p in children.values()), timeout=20)
        assert gone, [p.cmdline() for p in children.values() if is_running(p)]
    up.process = up.begin()
    assert wait_until(
        lambda: "LoRA Foundry runs at" in up.text() or up.process.poll() is not None, timeout=START
    )
    assert up.status() == 200
