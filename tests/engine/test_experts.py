"""Base models with one denoiser for high and one for low noise levels: Wan 2.2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.engine.api import LoRATrainer
from training.engine.errors import ConfigurationError
from training.engine.export.weights_file import read_metadata
from training.engine.families.wan import Wan
from training.engine.generate import Generator
from training.engine.generation import GenerationSpec, picture_path

from .conformance import perturb
from .conftest import CPU, Recorder, make_spec
from .test_conformance import drawn_by_both

BOUNDARY = 0.7


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "wan"
    Wan().save(Wan().tiny("14b"), folder)
    return folder


@pytest.fixture
def train(base: Path, pictures: Path, tmp_path: Path) -> Callable[..., LoRATrainer]:
    def factory(expert: str, **training: Any) -> LoRATrainer:
        spec = make_spec(
            base, pictures, method={"targets": "all", "expert": expert, "alpha": 40.0}, training=training,
            output={"dtype": "fp32"}, cache_dir=str(tmp_path / "cache"),
        )  # fmt: skip
        trainer = LoRATrainer(spec, run_dir=tmp_path / expert, sink=Recorder(), device=CPU)
        trainer.prepare_data()
        trainer.build_model()
        return trainer

    return factory


@pytest.mark.parametrize("kind", ["14b", "5b"])
def test_wan_2_2_draws_as_its_pipeline(kind: str) -> None:
    ours, theirs = drawn_by_both(Wan(), Wan().tiny(kind))
    assert float(ours.std()) > 1e-3
    assert torch.allclose(ours, theirs, atol=2e-5)


def test_each_row_goes_to_the_denoiser_of_its_noise_level() -> None:
    family = Wan()
    parts = family.tiny("14b")
    noised = torch.randn(3, *family.latent_shape(parts, 32, 32), generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, BOUNDARY, 0.9])
    text = family.collate_text(family.encode_text(parts, ["one", "two words", "three"]))
    with torch.no_grad():
        out = family.forward(parts, noised, t, text)
        for row, name in enumerate(("transformer_2", "transformer", "transformer")):
            other = family.tiny()
            other.components["transformer"] = parts.components[name]
            one = {key: value[row : row + 1] for key, value in text.items()}
            alone = family.forward(other, noised[row : row + 1], t[row : row + 1], one)
            assert torch.allclose(out[row], alone[0], atol=1e-5)


@pytest.mark.parametrize(("expert", "low", "high"), [("low", 0.001, BOUNDARY), ("high", BOUNDARY, 1.0)])
@pytest.mark.parametrize("shift", [None, 8.0])
def test_only_noise_levels_of_the_expert_are_trained(
    train: Callable[..., LoRATrainer], expert: str, low: float, high: float, shift: float | None
) -> None:
    trainer = train(expert, timestep_sampling="uniform", timestep_shift=shift)
    seen: list[torch.Tensor] = []
    plain = trainer.computer.denoising_loss

    def denoising_loss(latents: Any, noise: Any, t: torch.Tensor, *more: Any) -> torch.Tensor:
        seen.append(t)
        return plain(latents, noise, t, *more)

    trainer.computer.denoising_loss = denoising_loss  # type: ignore[method-assign]
    for step in range(40):
        trainer.computer.backward(step, 4)
    times = torch.cat(seen)
    assert low - 1e-7 <= float(times.min()) < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < float(times.max()) <= high
    pairs = [p for group in trainer.adapter.groups() for _, p in group.parameters]
    assert all(p.grad is not None for p in pairs)


def test_of_two_denoisers_the_one_for_low_noise_is_trained_by_default(
    train: Callable[..., LoRATrainer],
) -> None:
    trainer = train("auto")
    assert (trainer.parts.denoiser_name, trainer.parts.expert) == ("transformer_2", "low")


@pytest.mark.parametrize("expert", ["low", "high"])
def test_file_says_its_expert_and_drawing_puts_it_there(
    train: Callable[..., LoRATrainer], base: Path, tmp_path: Path, expert: str
) -> None:
    trainer = train(expert)
    trainer.train()
    perturb(trainer)
    file = str(trainer.export_lora_weights())
    assert read_metadata(Path(file))["lora_foundry.expert"] == expert
    spec = GenerationSpec.from_dict({
        "base_model": {"path": str(base), "family": "wan"}, "prompts": ["a plate"], "steps": 3, "guidance": 1.0,
        "width": 64, "height": 64, "mixes": [[], [{"file": file}]],
    })  # fmt: skip
    Generator(spec, run_dir=tmp_path / "drawn", sink=Recorder(), device=CPU).run()
    plain, mixed = (
        np.asarray(Image.open(picture_path(tmp_path / "drawn", n)), dtype=np.int16) for n in (0, 1)
    )
    rows = trainer.family.encode_text(trainer.parts, ["", "a plate"])
    (live,) = trainer.artist.draw(
        rows[1:], rows[0], seeds=[42], steps=3, guidance=1.0, width=64, height=64
    )  # fmt: skip
    assert np.abs(mixed - np.asarray(live, dtype=np.int16)).max() <= 1  # one step of rounding to 8 bits
    assert np.abs(mixed - plain).max() > 1


def test_expert_of_a_model_with_one_denoiser_is_refused(
    bases: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    spec = make_spec(bases["wan"], pictures, method={"expert": "high"})
    trainer = LoRATrainer(spec, run_dir=tmp_path / "run", sink=Recorder(), device=CPU)
    trainer.prepare_data()
    with pytest.raises(ConfigurationError) as caught:
        trainer.build_model()
    assert (caught.value.code, caught.value.patch) == ("no_experts", {"/method/expert": "auto"})
