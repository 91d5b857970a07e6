"""The engine as a process: the ready server, events, signals, the lease, kills."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from training.engine import checkpoint, forkserver
from training.engine.events import from_line

from .conftest import assert_equal, make_spec

pytestmark = pytest.mark.slow


class Child:
    """Be a started run as its supervisor sees it."""

    def __init__(
        self, socket: Path, spec: Path, run_dir: Path, resume_from: Path | None, *, full_pipe: bool = False
    ) -> None:
        self.run_dir = run_dir
        self._events, events = os.pipe()
        if full_pipe:
            size = fcntl.fcntl(events, fcntl.F_SETPIPE_SZ, 4096)
            os.write(events, b"x" * size)
        control, self._control = os.pipe()
        self.log = run_dir.with_suffix(".log")
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.ticket = forkserver.start_child(
            socket,
            spec=spec,
            run_dir=run_dir,
            resume_from=resume_from,
            events_fd=events,
            control_fd=control,
            log_fd=log,
        )
        for fd in (events, control, log):
            os.close(fd)
        self.pid = self.ticket.pid
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def tell(self, **message: Any) -> None:
        os.write(self._control, json.dumps(message).encode() + b"\n")

    def hang_up(self) -> None:
        os.close(self._control)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def read_until(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 60.0) -> dict[str, Any]:
        """Read events until one is wanted."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                from_line(line.decode())
                self.events.append(json.loads(line))
                if wanted(self.events[-1]):
                    return self.events[-1]
            ready, _, _ = select.select([self._events], [], [], deadline - time.monotonic())
            data = os.read(self._events, 65536) if ready else b""
            if not data:
                raise AssertionError(f"the wanted event never came; log: {self.log.read_text()[-2000:]}")
            self._buffer += data

    def step(self, number: int) -> None:
        """Wait until a step is done."""
        self.read_until(lambda e: e["type"] == "metrics" and e["step"] >= number)

    def wait(self, timeout: float = 60.0) -> int | None:
        """Read what is left and return the exit code."""
        with contextlib.suppress(AssertionError):
            self.read_until(lambda e: False, timeout)
        return self.ticket.wait(timeout)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["type"] == kind]


@pytest.fixture(scope="module")
def ready_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    socket = tmp_path_factory.mktemp("ready") / "engine.sock"
    process = forkserver.start_server(socket)
    wait_for_socket(socket)
    yield socket
    process.kill()
    process.wait()


def wait_for_socket(socket: Path) -> None:
    deadline = time.monotonic() + 120
    while not socket.exists():
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)


Start = Callable[..., Child]


@pytest.fixture
def start(ready_engine: Path, bases: dict[str, Path], pictures: Path, tmp_path: Path) -> Start:
    def factory(
        run: str = "run", resume_from: Path | None = None, full_pipe: bool = False, **sections: Any
    ) -> Child:
        sections.setdefault("cache_dir", str(tmp_path / "cache"))
        spec = make_spec(bases["sd"], pictures, **sections)
        path = tmp_path / f"{run}.json"
        path.write_text(json.dumps(spec.to_dict()))
        return Child(ready_engine, path, tmp_path / run, resume_from, full_pipe=full_pipe)

    return factory


LONG = {"steps": 5000, "schedule": "constant"}


def test_run_tells_the_whole_story_in_order_and_ends_with_zero(start: Start) -> None:
    child = start(sampling={"prompts": ["{trigger}, a", "b"], "steps": 2}, training={"held_out": 0.2})
    assert child.wait() == 0
    phases = [e["phase"] for e in child.of("phase")]
    assert list(dict.fromkeys(phases)) == [
        "fetch_data", "load_base", "cache_latents", "cache_text", "train", "sample", "export", "evaluate"
    ]  # fmt: skip
    assert child.of("plan")[0]["total_steps"] == 6
    assert [e["step"] for e in child.of("checkpoint")] == [3, 6]
    assert {(e["step"], e["lora"]) for e in child.of("sample")} == {
        (0, False),
        (2, True),
        (4, True),
        (6, True),
    }
    assert {e["prompt"] for e in child.of("sample")} == {"inky, a", "b"}
    for event in child.of("sample"):
        assert (child.run_dir / event["path"]).is_file()
    for event in child.of("checkpoint"):
        assert (child.run_dir / event["path"] / "manifest.json").is_file()
        assert (child.run_dir / event["export"]).stat().st_size == event["export_bytes"]
    steps = [step for e in child.of("metrics") for step, _ in e["series"].get("loss", [])]
    assert steps == [1, 2, 3, 4, 5, 6]
    figures = child.of("evaluation")[0]
    assert set(figures["held_out_loss"]) == set(figures["style_distance"]) == set(figures["content_score"]) == {
        "base", "lora"
    }  # fmt: skip
    assert child.events[-1]["type"] == "done"
    filed = (child.run_dir / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in filed] == child.events


def test_child_leads_a_process_group_of_its_own(start: Start) -> None:
    child = start(training=LONG)
    child.step(1)
    assert os.getpgid(child.pid) == child.pid
    child.tell(type="cancel")
    assert child.wait() == 75


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_group_leaves_the_run_to_its_supervisor(
    bases: dict[str, Path], pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(make_spec(bases["sd"], pictures, training=LONG).to_dict()))
    server = forkserver.start_server(tmp_path / "s")
    wait_for_socket(tmp_path / "s")
    try:
        child = Child(tmp_path / "s", spec, tmp_path / "run", None)
        child.step(1)
        server.send_signal(number)
        child.tell(type="drain")
        assert child.wait() == 75
        assert [event["reason"] for event in child.of("interrupted")] == ["drain"]
        assert server.poll() is None
    finally:
        server.kill()
        server.wait()


def test_sigterm_saves_and_exits_75(start: Start, tmp_path: Path) -> None:
    child = start(training=LONG)
    child.step(2)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 75
    told = child.of("interrupted")[0]
    assert told["reason"] == "sigterm"
    assert told["checkpoint"] == f"checkpoints/step-{told['step']:08d}"
    assert checkpoint.load(child.run_dir / told["checkpoint"]).state.step == told["step"]


@pytest.mark.parametrize("request_name", ["pause", "preempt", "drain", "cancel"])
def test_request_is_answered_at_the_next_step(start: Start, request_name: str) -> None:
    child = start(training=LONG, checkpoint={"every_steps": 5000})
    child.step(2)
    child.tell(type=request_name)
    assert child.wait() == 75
    told = child.of("interrupted")[0]
    assert told["reason"] == request_name
    assert (told["checkpoint"] is None) == (request_name == "cancel")


def test_stop_ends_well_with_a_file(start: Start) -> None:
    child = start(training=LONG, checkpoint={"every_steps": 5000})
    child.step(2)
    child.tell(type="stop")
    assert child.wait() == 0
    done = child.of("done")[0]
    assert 2 <= done["step"] < done["total_steps"] == 5000
    assert (child.run_dir / child.of("export")[0]["path"]).is_file()


def test_lease_that_is_not_renewed_ends_the_process(start: Start) -> None:
    child = start(training=LONG)
    child.tell(type="lease", ttl=30)
    child.step(1)
    begun = time.monotonic()
    child.tell(type="lease", ttl=0.5)
    assert child.wait() == 75
    assert time.monotonic() - begun < 10
    assert not child.of("interrupted")  # told to the file only: whoever reads the pipe may be the frozen one
    last = json.loads((child.run_dir / "events.jsonl").read_text().splitlines()[-1])
    assert (last["type"], last["reason"]) == ("interrupted", "lease_lost")


def test_lease_ends_even_a_process_that_cannot_write(start: Start) -> None:
    """A frozen supervisor reads nothing: the pipe is full and the run hangs in a write."""
    child = start(training=LONG, full_pipe=True)
    child.tell(type="lease", ttl=1)
    assert child.ticket.wait(0.5) is None
    assert child.ticket.wait(30) == 75
    filed = [json.loads(line) for line in (child.run_dir / "events.jsonl").read_text().splitlines()]
    assert [e["type"] for e in filed] == ["phase"]


def test_lease_that_lay_in_the_pipe_gives_a_frozen_run_no_more_time(start: Start) -> None:
    """Worker and engine are frozen together, as a suspended machine does: what is read afterwards is old."""
    child = start(training=LONG)
    child.tell(type="lease", ttl=600)
    child.step(1)
    child.freeze()
    child.tell(type="lease", ttl=600, until=time.monotonic() + 0.2)
    time.sleep(0.3)
    child.thaw()
    assert child.wait(20) == 75
    last = json.loads((child.run_dir / "events.jsonl").read_text().splitlines()[-1])
    assert (last["type"], last["reason"]) == ("interrupted", "lease_lost")


def test_closed_control_pipe_ends_the_process_once_there_was_a_lease(start: Start) -> None:
    child = start(training=LONG)
    child.tell(type="lease", ttl=600)
    child.step(1)
    child.hang_up()
    assert child.wait(20) == 75
    last = json.loads((child.run_dir / "events.jsonl").read_text().splitlines()[-1])
    assert last["reason"] == "control_closed"


def test_killed_run_goes_on_bit_for_bit(start: Start) -> None:
    recipe = {"steps": 12, "caption_dropout": 0.2, "flip": True, "warmup_steps": 3}
    whole = start("whole", training=recipe, checkpoint={"every_steps": 4})
    assert whole.wait() == 0
    killed = start("killed", training=recipe, checkpoint={"every_steps": 4})
    killed.read_until(lambda e: e["type"] == "checkpoint" and e["step"] == 4)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    again = start(
        "killed", training=recipe, checkpoint={"every_steps": 4}, resume_from=killed.run_dir / "checkpoints"
    )
    assert again.wait() == 0
    assert again.of("plan")[0]["resumed_from_step"] >= 4
    newest = "checkpoints/step-00000012"
    for file in ("adapter.safetensors", "optimizer.safetensors"):
        assert_equal(load_file(whole.run_dir / newest / file), load_file(killed.run_dir / newest / file))
    exports = [load_file(child.run_dir / "exports" / "tiny.safetensors") for child in (whole, killed)]
    assert_equal(*exports)
    one, two = (
        {s: v for e in c.of("metrics") for s, v in e["series"].get("loss", [])} for c in (whole, again)
    )
    assert two == {step: value for step, value in one.items() if step in two}


@pytest.mark.parametrize(
    ("sections", "code", "event_code", "category"),
    [
        ({"dataset": {"folder": "/nonexistent"}}, 65, "folder_missing", "user"),
        ({"base_model": {"path": "/nonexistent"}}, 64, "base_model_missing", "user"),
        ({"base_model": {"family": "sdd"}}, 64, "unknown_family", "user"),
    ],
)
def test_failure_is_told_with_its_code(
    start: Start, sections: Any, code: int, event_code: str, category: str
) -> None:
    child = start(**sections)
    assert child.wait() == code
    told = child.of("error")[0]
    assert (told["code"], told["category"]) == (event_code, category)
    assert child.events[-1] == told


def test_wrong_specification_is_a_configuration_error(ready_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"name": "x", "stepps": 3}')
    child = Child(ready_engine, tmp_path / "spec.json", tmp_path / "run", None)
    assert child.wait() == 64
    assert child.of("error")[0]["message"] == "/stepps: unknown setting 'stepps'; did you mean 'steps'?"


def test_request_without_descriptors_is_refused_and_the_server_lives(
    ready_engine: Path, start: Start
) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(ready_engine))
        connection.sendall(b'{"spec": "a", "run_dir": "b"}\n')
        assert b"three descriptors" in connection.recv(4096)
    assert start(training={"steps": 1}).wait() == 0


def test_children_die_with_the_server_and_the_server_with_its_parent(
    bases: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(make_spec(bases["sd"], pictures, training=LONG).to_dict()))
    script = (
        "import os, sys, time; from pathlib import Path; from training.engine import forkserver as f\n"
        f"s = Path({str(tmp_path / 's')!r}); f.start_server(s)\n"
        "while not s.exists(): time.sleep(0.02)\n"
        "n = os.open(os.devnull, os.O_RDWR); r, w = os.pipe()\n"
        f"t = f.start_child(s, spec=Path({str(spec)!r}),"
        f" run_dir=Path({str(tmp_path / 'r')!r}), events_fd=n, control_fd=r, log_fd=n)\n"
        "print(t.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie that nobody reaps in this container does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
