"""Base models that were distilled: refused as they are, trained with an adapter that nobody else sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from training.engine.api import LoRATrainer
from training.engine.errors import ConfigurationError
from training.engine.export.weights_file import read_metadata
from training.engine.families.base import Parts
from training.engine.families.flux import Flux
from training.engine.families.flux2 import Flux2Klein
from training.engine.families.z_image import ZImage
from training.engine.registry import load_family

from .conftest import CPU, Recorder, make_spec, recorded, weights


@pytest.fixture
def build_on(pictures: Path, tmp_path: Path) -> Callable[..., LoRATrainer]:
    """Build a trainer on some model; keyword arguments are settings of the base model."""

    def factory(
        family: str, parts: Parts, run: str = "run", resume_from: Path | None = None, **base: Any
    ) -> LoRATrainer:
        folder = tmp_path / "bases" / run / family
        if not folder.exists():
            load_family(family).save(parts, folder)
        spec = make_spec(
            folder, pictures, base_model=base, cache_dir=str(tmp_path / "cache"), output={"dtype": "fp32"},
            training={"learning_rate": 3e-2}, sampling={"prompts": ["a red cat"], "guidance": 1.0},
        )  # fmt: skip
        trainer = LoRATrainer(
            spec, run_dir=tmp_path / run, sink=Recorder(), resume_from=resume_from, device=CPU
        )
        trainer.prepare_data()
        trainer.build_model()
        return trainer

    return factory


def layers_of(model: nn.Module) -> dict[str, nn.Linear]:
    return {
        name: module for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(("to_q", "to_v", "w2"))
    }  # fmt: skip


def adapter_file(path: Path, model: nn.Module, seed: int = 1, **more: Tensor) -> dict[str, Tensor]:
    """Write an adapter as another trainer would, and return what it adds to each weight."""
    content, changes = dict(more), {}
    generator = torch.Generator().manual_seed(seed)
    for name, layer in layers_of(model).items():
        down = torch.randn(2, layer.in_features, generator=generator)
        up = torch.randn(layer.out_features, 2, generator=generator) * 0.1
        content |= {
            f"diffusion_model.{name}.lora_A.weight": down,
            f"diffusion_model.{name}.lora_B.weight": up,
        }
        changes[name] = up @ down
    save_file(content, path)
    return changes


# -- distilled or not ------------------------------------------------------------------------------------------------

DISTILLED: dict[str, Callable[[], Parts]] = {
    "flux": lambda: Flux().tiny(guidance=False),
    "flux2-klein": lambda: Flux2Klein().tiny(distilled=True),
    "z-image": lambda: ZImage().tiny(turbo=True),
}


@pytest.mark.parametrize("family", DISTILLED)
def test_distilled_model_is_refused_without_an_adapter(
    family: str, build_on: Callable[..., LoRATrainer]
) -> None:
    assert not load_family(family).is_distilled(load_family(family).tiny())
    with pytest.raises(ConfigurationError, match="draw in a few steps") as caught:
        build_on(family, DISTILLED[family]())
    assert caught.value.code == "base_model_distilled"
    assert caught.value.hint is not None
    assert "base_model.training_adapter" in caught.value.hint


def test_recipe_knows_better_than_the_files(build_on: Callable[..., LoRATrainer]) -> None:
    build_on("z-image", ZImage().tiny(turbo=True), "made-whole-again", distilled="no")
    with pytest.raises(ConfigurationError) as caught:
        build_on("z-image", ZImage().tiny(), "accelerated", distilled="yes")
    assert caught.value.code == "base_model_distilled"


# -- the adapter -----------------------------------------------------------------------------------------------------


def test_training_is_that_of_the_model_with_the_adapter_in_its_weights(
    build_on: Callable[..., LoRATrainer], tmp_path: Path
) -> None:
    turbo, merged = (ZImage().tiny(turbo=True) for _ in range(2))
    changes = adapter_file(tmp_path / "adapter.safetensors", turbo.denoiser)
    with torch.no_grad():
        for name, layer in layers_of(merged.denoiser).items():
            layer.weight += changes[name]
    with_adapter = build_on("z-image", turbo, training_adapter=str(tmp_path / "adapter.safetensors"))
    reference = build_on("z-image", merged, "merged", distilled="no")
    plain = build_on("z-image", turbo, "plain", distilled="no")
    for trainer in (with_adapter, reference, plain):
        trainer.train()
    ours, theirs, others = (weights(trainer) for trainer in (with_adapter, reference, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in ours)
    assert not all(torch.allclose(ours[name], others[name], atol=2e-3) for name in ours)


def test_samples_and_the_finished_file_are_without_the_adapter(
    build_on: Callable[..., LoRATrainer], tmp_path: Path
) -> None:
    turbo = ZImage().tiny(turbo=True)
    file = tmp_path / "adapter.safetensors"
    adapter_file(file, turbo.denoiser)
    trainer = build_on("z-image", turbo, training_adapter=str(file))
    plain = build_on("z-image", turbo, "plain", distilled="no")
    for each in (trainer, plain):
        each.draw(0, lora=False)
    first, expected = (Image.open(each.gallery.files(0)[0]).tobytes() for each in (trainer, plain))
    assert first == expected
    trainer.train()
    path = trainer.export_lora_weights()  # which puts the file on the plain model and compares
    assert read_metadata(path)["lora_foundry.training_adapter_sha256"] == trainer.training_adapter.sha256
    plain.adapter.load_state_dict(weights(trainer))
    for each in (trainer, plain):
        each.draw(6, lora=True)
    last, expected = (Image.open(each.gallery.files(6)[0]).tobytes() for each in (trainer, plain))
    assert last == expected != first


def test_run_is_not_resumed_with_another_adapter(
    build_on: Callable[..., LoRATrainer], tmp_path: Path
) -> None:
    turbo, file = ZImage().tiny(turbo=True), tmp_path / "adapter.safetensors"
    adapter_file(file, turbo.denoiser)
    trainer = build_on("z-image", turbo, training_adapter=str(file))
    trainer.train()
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000003"
    again = build_on("z-image", turbo, resume_from=checkpoint, training_adapter=str(file))
    assert again.state.step == 3
    adapter_file(file, turbo.denoiser, seed=2)
    with pytest.raises(ConfigurationError, match="training_adapter") as caught:
        build_on("z-image", turbo, resume_from=checkpoint, training_adapter=str(file))
    assert caught.value.code == "recipe_changed"


@pytest.mark.parametrize(
    ("damage", "code"),
    [("missing", "training_adapter_missing"), ("other", "training_adapter_of_another_base"),
     ("cut", "training_adapter_unreadable")],
)  # fmt: skip
def test_useless_adapter_is_refused(
    build_on: Callable[..., LoRATrainer], tmp_path: Path, damage: str, code: str
) -> None:
    turbo, file = ZImage().tiny(turbo=True), tmp_path / "adapter.safetensors"
    if damage != "missing":
        adapter_file(file, (Flux().tiny() if damage == "other" else turbo).denoiser)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ConfigurationError) as caught:
        build_on("z-image", turbo, training_adapter=str(file))
    assert caught.value.code == code


def test_layers_that_the_model_lacks_are_told(build_on: Callable[..., LoRATrainer], tmp_path: Path) -> None:
    turbo, file = ZImage().tiny(turbo=True), tmp_path / "adapter.safetensors"
    more = {
        f"diffusion_model.siglip_refiner.0.attention.to_q.lora_{side}.weight": torch.ones(2, 2)
        for side in "AB"
    }
    adapter_file(file, turbo.denoiser, **more)
    trainer = build_on("z-image", turbo, training_adapter=str(file))
    told = [event.message for event in recorded(trainer).of("log")]
    assert told == ["adapter.safetensors: 1 layers were left out."]
