"""Fixtures of the engine's tests: tiny models and pictures, no Django, no network, no database."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.engine.api import LoRATrainer
from training.engine.child import quieten_libraries
from training.engine.events import Event
from training.engine.families.base import ModelFamily
from training.engine.registry import family_names, load_family
from training.engine.spec import RunSpec

from .lora_samples import table_of, write_sample

CPU = torch.device("cpu")


class Recorder:
    """Keep every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    def curve(self, name: str) -> dict[int, float]:
        return {step: value for event in self.of("metrics") for step, value in event.series.get(name, [])}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    quieten_libraries()
    torch.set_num_threads(1)
    gc.freeze()  # half a second for each full collection over all that was imported
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every registered family's tiny model, saved once."""
    folders = {}
    for name in family_names():
        family = load_family(name)
        folders[name] = tmp_path_factory.mktemp("base") / name
        family.save(family.tiny(), folders[name])
    return folders


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures in two shapes, each of one colour, with captions that name it."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(10):
        rng = np.random.default_rng(index)
        pixels = np.full((48, 48 if index % 3 else 72, 3), rng.integers(0, 255, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"plate {index}, plain")
    return folder


@pytest.fixture(params=family_names())
def family(request: pytest.FixtureRequest) -> ModelFamily:
    return load_family(request.param)


Overrides = dict[str, Any]


def make_spec(base: Path, pictures: Path, **sections: Any) -> RunSpec:
    """Return a recipe of six quick steps; sections given are merged in."""
    data: dict[str, Any] = {
        "name": "tiny", "base_model": {"path": str(base), "family": base.name}, "dataset": {"folder": str(pictures)},
        "trigger": "inky", "method": {"rank": 4, "alpha": 2.0, "targets": "attn"},
        "training": {"steps": 6, "batch_size": 4, "learning_rate": 3e-3, "resolution": 32, "schedule": "cosine"},
        "sampling": {"steps": 2}, "checkpoint": {"every_steps": 3, "every_minutes": None}, "threads": 1,
    }  # fmt: skip
    for name, value in sections.items():
        if isinstance(value, dict):
            data[name] = {**data.get(name, {}), **value}
        else:
            data[name] = value
    return RunSpec.from_dict(data)


Build = Callable[..., LoRATrainer]


@pytest.fixture
def build(bases: dict[str, Path], pictures: Path, tmp_path: Path) -> Build:
    """Build a trainer that is ready for its first step; keyword arguments are sections of the spec."""

    def factory(
        family: str = "sd", run: str = "run", resume_from: Path | None = None, **sections: Any
    ) -> LoRATrainer:
        sections.setdefault("cache_dir", str(tmp_path / "cache"))
        trainer = LoRATrainer(
            make_spec(bases[family], sections.pop("pictures", pictures), **sections),
            run_dir=tmp_path / run, sink=Recorder(), resume_from=resume_from, device=CPU,
        )  # fmt: skip
        trainer.prepare_data()
        trainer.build_model()
        return trainer

    return factory


def recorded(trainer: LoRATrainer) -> Recorder:
    """Return the trainer's recorder."""
    assert isinstance(trainer.sink, Recorder)
    return trainer.sink


def weights(trainer: LoRATrainer) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors."""
    return trainer.adapter.state_dict()


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """Compare tensors bit for bit."""
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return two LoRA files of different ranks and strengths; the second changes attention alone."""
    family = load_family("sd")
    table = table_of(family, "kohya")
    one = write_sample(tmp_path / "a.safetensors", family, table, rank=3, alpha=1.5, seed=1)
    two = write_sample(tmp_path / "b.safetensors", family, table, rank=2, alpha=5.0, seed=2, only="attn")
    return one, two
