"""Plant the classical bugs of LoRA trainers one by one: the conformance tests must catch each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.engine import diffusion, warm_up
from training.engine.api import LoRATrainer
from training.engine.checkpoint import Loaded
from training.engine.data.dataset import Dataset, Picture
from training.engine.errors import EngineError
from training.engine.export import factors
from training.engine.families.flux import Flux
from training.engine.families.sd import StableDiffusion
from training.engine.families.sdxl import StableDiffusionXL
from training.engine.methods.layers import LayerAdapter
from training.engine.optimizer import Optimizer
from training.engine.registry import load_family
from training.engine.step import Draw, StepComputer

from . import test_conformance as models
from . import test_conformance_runs as runs
from .conftest import Build

Patch = pytest.MonkeyPatch


def alpha_dropped(patch: Patch) -> None:
    plain = factors.tensors

    def tensors(*arguments: Any) -> dict[str, Tensor]:
        found = plain(*arguments)
        return {
            key: torch.tensor(float(found[key.replace(".alpha", ".lora_down.weight")].shape[0]))
            if key.endswith(".alpha") else tensor
            for key, tensor in found.items()
        }  # fmt: skip

    patch.setattr(factors, "tensors", tensors)


def text_encoder_not_exported(patch: Patch) -> None:
    plain = factors.tensors

    def tensors(*arguments: Any) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in plain(*arguments).items() if not key.startswith("lora_te")}

    patch.setattr(factors, "tensors", tensors)


def sign_flipped(patch: Patch) -> None:
    plain = Flux.forward
    patch.setattr(Flux, "forward", lambda *arguments: -plain(*arguments))


def shift_applied_twice(patch: Patch) -> None:
    plain = diffusion.shifted
    patch.setattr(diffusion, "shifted", lambda u, shift: plain(plain(u, shift), shift))


def cache_keyed_by_step(patch: Patch) -> None:
    plain, calls = Dataset.latent, [0]

    def latent(self: Dataset, picture: Picture, flip: bool = False, crop: float = 0.5) -> Tensor:
        same = [each for each in self.train if each.bucket == picture.bucket]
        calls[0] += 1
        return plain(self, same[calls[0] % len(same)], flip, crop)

    patch.setattr(Dataset, "latent", latent)


def adapter_in_bf16(patch: Patch) -> None:
    plain = LayerAdapter.initialise

    def initialise(self: LayerAdapter, seed: int) -> None:
        plain(self, seed)
        for _, _, parameter in self._named():
            parameter.data = parameter.data.to(torch.bfloat16)

    patch.setattr(LayerAdapter, "initialise", initialise)


def up_factor_not_zero(patch: Patch) -> None:
    plain = LayerAdapter.initialise

    def initialise(self: LayerAdapter, seed: int) -> None:
        plain(self, seed)
        with torch.no_grad():
            for _, name, parameter in self._named():
                if "lora_B" in name:
                    parameter.add_(1e-3)

    patch.setattr(LayerAdapter, "initialise", initialise)


def clipping_does_nothing(patch: Patch) -> None:
    def clip(self: Optimizer) -> Tensor:
        return torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    patch.setattr(Optimizer, "clip", clip)


def time_ids_swapped(patch: Patch) -> None:
    plain = StableDiffusionXL.geometry

    def geometry(self: StableDiffusionXL, *arguments: Any) -> dict[str, Tensor]:
        return {"time_ids": plain(self, *arguments)["time_ids"][[1, 0, 3, 2, 5, 4]]}

    patch.setattr(StableDiffusionXL, "geometry", geometry)


def caption_dropout_off(patch: Patch) -> None:
    plain = StepComputer.draws

    def draws(self: StepComputer, step: int) -> list[list[Draw]]:
        return [
            [dataclasses.replace(d, text=self._dataset.text(d.picture)) for d in batch]
            for batch in plain(self, step)
        ]

    patch.setattr(StepComputer, "draws", draws)


def rate_stepped_per_micro_batch(patch: Patch) -> None:
    plain = Optimizer._factor

    def factor(self: Optimizer, step: int) -> float:
        return plain(self, step * self._training.gradient_accumulation)

    patch.setattr(Optimizer, "_factor", factor)


def latents_not_normalised(patch: Patch) -> None:
    patch.setattr(StableDiffusion, "normalise", lambda self, parts, latents: latents)


def resume_begins_the_data_anew(patch: Patch) -> None:
    plain = LoRATrainer._restore

    def restore(self: LoRATrainer, loaded: Loaded) -> None:
        plain(self, loaded)
        begun, sampler = loaded.state.step, self.dataset.sampler.step
        self.dataset.sampler.step = lambda step: sampler(step - begun)  # type: ignore[method-assign]

    patch.setattr(LoRATrainer, "_restore", restore)


def moments_lost_on_resume(patch: Patch) -> None:
    patch.setattr(Optimizer, "load_state_dict", lambda self, state: None)


def noise_from_global_state(patch: Patch) -> None:
    from training.engine import step

    patch.setattr(step, "sample_noise", lambda training, shape, number, index: torch.randn(tuple(shape)))


def checkpointing_not_on(patch: Patch) -> None:
    patch.setattr(warm_up, "set_level", lambda denoiser, level: True)


def mean_over_micro_batches(patch: Patch) -> None:
    """Average each part by its own size: parts of other sizes then count too much."""
    plain = StepComputer.losses

    def losses(self: StepComputer, draws: list[Draw]) -> Tensor:
        found = plain(self, draws)
        return found / len(found)

    patch.setattr(StepComputer, "losses", losses)


def padding_is_attended(patch: Patch) -> None:
    """Give every text of a batch the row of the first."""
    plain = StableDiffusion.collate_text

    def collate(self: StableDiffusion, rows: list[dict[str, Tensor]]) -> Mapping[str, Tensor]:
        return plain(self, [rows[0]] * len(rows))

    patch.setattr(StableDiffusion, "collate_text", collate)


@dataclasses.dataclass
class Bench:
    """Have at hand what a conformance test asks for."""

    build: Build
    pictures: Path
    tmp_path: Path
    patch: Patch


Check = Callable[[Bench], None]


def resumed(bench: Bench) -> None:
    runs.test_resumed_run_ends_with_the_same_weights(load_family("sd"), bench.build, bench.tmp_path)


def exported(bench: Bench) -> None:
    runs.test_exported_file_has_the_trained_effect(load_family("sd"), bench.build, "fp32")


def adapted(bench: Bench) -> None:
    models.test_only_the_adapter_has_gradients_and_all_of_it_is_fp32(load_family("sd"), bench.build)


def split(bench: Bench) -> None:
    models.test_micro_batches_add_up_to_the_batch(load_family("sd"), bench.build, 3)


FAULTS: dict[Callable[[Patch], None], Check] = {
    alpha_dropped: exported,
    text_encoder_not_exported: exported,
    sign_flipped: lambda b: models.test_pictures_are_those_of_the_diffusers_pipeline(load_family("flux")),
    shift_applied_twice: lambda b: runs.test_times_are_spread_as_told_and_moved_once(
        load_family("flux"), b.build, b.patch, "uniform"
    ),
    cache_keyed_by_step: lambda b: runs.test_latents_and_texts_are_those_of_the_picture(
        load_family("sd"), b.build
    ),
    adapter_in_bf16: adapted,
    up_factor_not_zero: lambda b: models.test_fresh_adapter_changes_nothing(
        load_family("sd"), b.pictures, "attn"
    ),
    clipping_does_nothing: lambda b: runs.test_gradients_are_clipped(load_family("sd"), b.build),
    time_ids_swapped: lambda b: models.test_pictures_are_those_of_the_diffusers_pipeline(load_family("sdxl")),
    caption_dropout_off: lambda b: runs.test_dropped_captions_are_the_empty_prompt(
        load_family("sd"), b.build
    ),
    rate_stepped_per_micro_batch: lambda b: runs.test_learning_rate_follows_its_closed_form(
        load_family("sd"), b.build, 2
    ),
    latents_not_normalised: lambda b: models.test_scaling_of_latents_is_undone(load_family("sd")),
    resume_begins_the_data_anew: resumed,
    moments_lost_on_resume: resumed,
    noise_from_global_state: resumed,
    checkpointing_not_on: lambda b: models.test_gradient_checkpointing_changes_no_gradient(
        load_family("sd"), b.build
    ),
    mean_over_micro_batches: split,
    padding_is_attended: lambda b: models.test_a_row_is_the_same_alone_and_among_others(load_family("sd")),
}


@pytest.fixture
def bench(build: Build, pictures: Path, tmp_path: Path, monkeypatch: Patch) -> Bench:
    return Bench(build, pictures, tmp_path, monkeypatch)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_planted_fault_is_caught(bench: Bench, fault: Callable[[Patch], None]) -> None:
    fault(bench.patch)
    with pytest.raises((AssertionError, EngineError, pytest.fail.Exception)):
        FAULTS[fault](bench)


@pytest.mark.parametrize(
    "check", dict.fromkeys(FAULTS.values()), ids=lambda check: getattr(check, "__name__", "")
)
def test_without_a_fault_the_same_tests_pass(bench: Bench, check: Check) -> None:
    check(bench)
