"""The base model that the ready engine keeps in memory: used when it is the same, never when it is another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from training.engine import forkserver, resident
from training.engine.data.identity import ModelIdentity
from training.engine.registry import load_family
from training.engine.resident import Base, load_base

from .conftest import assert_equal, make_spec
from .test_child import LONG, Child, wait_for_socket

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"


class ReadyEngine:
    """Be a server that keeps base models of up to 3 MB, and what it runs."""

    def __init__(self, folder: Path, pictures: Path) -> None:
        self.pictures = pictures
        self.socket = folder / "engine.sock"
        self.process: subprocess.Popen[bytes] = forkserver.start_server(self.socket, resident_mb=3)
        wait_for_socket(self.socket)

    def children(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if child.status() != psutil.STATUS_ZOMBIE]

    def holder(self) -> psutil.Process:
        """Wait for the one process that holds a base model, or loads it."""
        wait_for(lambda: len(self.children()) == 1)
        (holder,) = self.children()
        return holder

    def let_go(self) -> None:
        """Let no base model be held; one may be about to be loaded."""

        def is_alone() -> bool:
            children = psutil.Process(self.process.pid).children()
            for child in children:
                child.kill()
            return not children

        wait_for(is_alone)


class Studio:
    """Be one test's base model and runs."""

    def __init__(self, engine: ReadyEngine, base: Path, folder: Path) -> None:
        self.engine, self.base, self.folder = engine, base, folder

    def start(self, run: str, base: Path | None = None, **sections: Any) -> Child:
        sections.setdefault("cache_dir", str(self.folder / "cache"))
        spec = make_spec(base or self.base, self.engine.pictures, base_model={"family": "sd"}, **sections)
        path = self.folder / f"{run}.json"
        path.write_text(json.dumps(spec.to_dict()))
        return Child(self.engine.socket, path, self.folder / run, None)

    def start_held(self, run: str, **options: Any) -> Child:
        """Start a run that the holder forks; it may take a moment until that has loaded."""
        for attempt in range(100):
            child = self.start(f"{run}{attempt}", **options)
            if parent(child) != self.engine.process.pid:
                return child
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            time.sleep(0.1)
        raise AssertionError("no holder took the run")

    def train(self, run: str, **options: Any) -> dict[str, torch.Tensor]:
        """Train to the end; return the file's tensors."""
        return result(self.start(run, **options))


def parent(child: Child) -> int:
    return psutil.Process(child.pid).ppid()


def result(child: Child) -> dict[str, torch.Tensor]:
    assert child.wait() == 0, child.log.read_text()
    return load_file(child.run_dir / "exports" / "tiny.safetensors")


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def base(bases: dict[str, Path], tmp_path: Path) -> Path:
    """A base model of the test's own, to change."""
    return Path(shutil.copytree(bases["sd"], tmp_path / "base"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[ReadyEngine]:
    engine = ReadyEngine(tmp_path_factory.mktemp("ready"), pictures)
    yield engine
    engine.process.kill()
    engine.process.wait()


@pytest.fixture
def studio(engine: ReadyEngine, base: Path, tmp_path: Path) -> Studio:
    engine.let_go()
    return Studio(engine, base, tmp_path)


def change_weights(base: Path) -> None:
    """Replace the denoiser by another of the same size, with the old file's time of writing."""
    stat = (base / UNET).stat()
    tensors = {name: tensor * 1.5 for name, tensor in load_file(base / UNET).items()}
    save_file(tensors, base / "new", metadata={"format": "pt"})
    os.replace(base / "new", base / UNET)
    os.utime(base / UNET, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# -- In a process of its own -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("text_encoder", [False, True])
def test_weights_are_the_same_with_and_without_a_held_base(studio: Studio, text_encoder: bool) -> None:
    method = {"rank": 4, "text_encoder": text_encoder}
    loaded = studio.train("loaded", method=method)
    holder = studio.engine.holder()
    for run in ("second", "third"):  # the third finds nothing of what the second did to its copy
        child = studio.start_held(run, method=method)
        assert parent(child) == holder.pid
        assert_equal(result(child), loaded)


@pytest.mark.slow
def test_replaced_base_is_loaded_anew(studio: Studio) -> None:
    old = studio.train("old")
    result(studio.start_held("held", training={"steps": 1}))  # it has loaded
    change_weights(studio.base)
    new = result(studio.start_held("new"))
    assert any(not torch.equal(old[name], new[name]) for name in old)
    studio.engine.let_go()
    assert_equal(studio.train("fresh"), new)


@pytest.mark.slow
def test_another_base_takes_the_place_of_the_one_held(studio: Studio, bases: dict[str, Path]) -> None:
    studio.train("one", training={"steps": 1})
    first = studio.engine.holder()
    studio.train("two", base=bases["sd"], training={"steps": 1})
    wait_for(lambda: studio.engine.holder().pid != first.pid)
    assert result(studio.start_held("three", base=bases["sd"], training={"steps": 1}))
    assert len(studio.engine.children()) == 1


@pytest.mark.slow
def test_end_of_a_run_on_a_held_base_is_told(studio: Studio) -> None:
    studio.train("one", training={"steps": 1})
    paused = studio.start_held("paused", training=LONG)
    paused.step(1)
    paused.tell(type="pause")
    assert paused.wait() == 75
    killed = studio.start_held("killed", training=LONG)
    killed.step(1)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_holder_costs_nothing(studio: Studio) -> None:
    whole = studio.train("one")
    assert result(studio.start_held("two", training={"steps": 1}))
    studio.engine.holder().send_signal(signal.SIGSTOP)
    waiting = threading.Timer(0.5, studio.engine.holder().kill)
    waiting.start()
    assert_equal(studio.train("three"), whole)  # it was handed over, and comes back to the server
    assert studio.engine.process.poll() is None
    assert_equal(result(studio.start_held("four")), whole)


@pytest.mark.slow
def test_base_that_vanished_is_not_held_and_its_run_says_so(studio: Studio) -> None:
    studio.train("one", training={"steps": 1})
    studio.engine.holder()
    shutil.rmtree(studio.base)
    child = studio.start("two")
    assert child.wait() == 64
    assert child.of("error")[0]["code"] == "base_model_missing"


@pytest.mark.slow
def test_base_above_the_limit_is_not_held(studio: Studio) -> None:
    encoder = CLIPTextConfig.from_pretrained(studio.base / "text_encoder")
    encoder.vocab_size = 60_000
    CLIPTextModel(encoder).save_pretrained(studio.base / "text_encoder")
    studio.train("one", training={"steps": 1})
    child = studio.start("two", training={"steps": 1})
    assert parent(child) == studio.engine.process.pid
    assert child.wait() == 0
    assert not studio.engine.children()


@pytest.mark.slow
def test_server_that_does_not_answer_is_given_up_and_what_it_starts_later_ends(studio: Studio) -> None:
    server = psutil.Process(studio.engine.process.pid)
    server.suspend()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.3 s"):
            forkserver.start_child(
                studio.engine.socket, spec=studio.folder / "x", run_dir=studio.folder / "y", events_fd=null,
                control_fd=null, log_fd=null, patience=0.3,
            )  # fmt: skip
    finally:
        os.close(null)
        server.resume()
    assert studio.train("next", training={"steps": 1})
    studio.engine.let_go()


# -- In this process -------------------------------------------------------------------------------------------


@pytest.fixture
def held(base: Path) -> Iterator[Base]:
    key = Base.of("sd", base, torch.float32)
    resident.hold(key)
    yield key
    resident._held = None


def test_held_base_is_given_away_once(held: Base, base: Path) -> None:
    family = load_family("sd")
    assert resident._held is not None
    parts = resident._held.parts
    first = load_base(family, base, device=CPU, dtype=torch.float32)
    assert first.denoiser is parts.denoiser
    assert first.folder == base
    assert load_base(family, base, device=CPU, dtype=torch.float32).denoiser is not parts.denoiser


def test_base_is_loaded_in_the_type_that_was_asked_for(held: Base, base: Path) -> None:
    parts = load_base(load_family("sd"), base, device=CPU, dtype=torch.bfloat16)
    assert next(parts.denoiser.parameters()).dtype == torch.bfloat16


def test_base_that_changed_is_not_held(base: Path) -> None:
    old = Base.of("sd", base, "float32")
    change_weights(base)
    with pytest.raises(ValueError, match="changed"):
        resident.hold(old)
    assert resident._held is None


def test_any_file_names_another_base(base: Path, tmp_path: Path) -> None:
    key = Base.of("sd", base, "float32")
    assert Base.of("sd", base, torch.float32) == key
    (tmp_path / "link").symlink_to(base)
    assert Base.of("sd", tmp_path / "link", "float32") == key
    (base / "scheduler" / "extra.txt").write_text("x")
    assert Base.of("sd", base, "float32") != key


def test_digests_are_shared_by_the_runs_of_a_server(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "digests", {})
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(resident, "tell", lambda **note: told.append(note))
    digest = ModelIdentity(tmp_path / "a.json").sha256([base])
    assert [len(note["digests"]) for note in told] == [len(resident.digests)]

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("training.engine.data.identity.file_sha256", unread)
    assert ModelIdentity(tmp_path / "b.json").sha256([base]) == digest
    assert len(told) == 1
