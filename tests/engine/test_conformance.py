"""What every model family must satisfy; a family that registers gets these tests for nothing: model and adapter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn

from training.engine import rng
from training.engine.families.base import ModelFamily, Parts
from training.engine.registry import load_method
from training.engine.sample import Artist

from .conformance import EDGE, HEIGHT, WIDTH, assert_parts_add_up, inputs_of, method_of, perturb, rows_of
from .conftest import CPU, Build, make_spec
from .known_families import KNOWN, EulerAtShift, Known

# -- the family against diffusers ------------------------------------------------------------------------------------


def drawn_by_both(
    family: ModelFamily, parts: Parts, known: Known | None = None, frames: int = 1, guidance: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one prompt with our sampler and with the family's diffusers pipeline, in [0, 1], from the same noise.

    A clip of more than one frame is (B, 3, F, H, W). The negative prompt is the known one.
    """
    known, steps = known or KNOWN[family.name], 3
    artist = Artist(family, parts, "fp32")
    row, negative = family.encode_text(parts, ["a red cat", family.negative(known.negative)])
    shape = family.clip_shape(parts, WIDTH, HEIGHT, frames)
    start = torch.randn(shape, generator=rng.generator(7, "sample")).unsqueeze(0)
    ours = artist.pixels(
        [row], negative, seeds=[7], steps=steps, guidance=guidance, width=WIDTH, height=HEIGHT, frames=frames
    )
    pipeline = parts.pipeline(getattr(diffusers, known.pipeline))
    pipeline.set_progress_bar_config(disable=True)
    if parts.process.objective != "flow":
        pipeline.scheduler = family.sampler(parts, steps, shape)
    elif "flow_shift" in parts.scheduler_config:
        pipeline.scheduler = EulerAtShift(shift=parts.scheduler_config["flow_shift"])
    sigmas = {"sigmas": torch.linspace(1.0, 1.0 / steps, steps).tolist()} if known.takes_sigmas else {}
    theirs = pipeline(
        prompt="a red cat", height=HEIGHT, width=WIDTH, num_inference_steps=steps, latents=known.latents(start),
        output_type="pt", **sigmas, **known.call, **({"num_frames": frames} if family.frame_step else {}),
    )[0]  # fmt: skip
    theirs = theirs.transpose(1, 2) if frames > 1 else theirs.reshape(ours.shape)
    return (ours / 2 + 0.5).clamp(0, 1), theirs


def test_pictures_are_those_of_the_diffusers_pipeline(family: ModelFamily) -> None:
    """Text, packing, times, sign, shift, size, and the scale of latents: all of it shows in the picture."""
    ours, theirs = drawn_by_both(family, family.tiny())
    assert float(ours.std()) > 1e-3, "an even picture shows nothing"
    assert torch.allclose(ours, theirs, atol=2e-5)


def test_guided_pictures_are_those_of_the_diffusers_pipeline(family: ModelFamily) -> None:
    """What is made of two predictions differs: some pipelines keep the length of the prompted one."""
    parts, known = family.tiny(), KNOWN[family.name]
    asked = (
        {"negative_prompt": known.negative} if known.negative and not family.is_told_guidance(parts) else {}
    )
    guided = dataclasses.replace(known, call={**known.call, known.guidance: 3.5, **asked})
    ours, theirs = drawn_by_both(family, parts, guided, guidance=3.5)
    plain, _ = drawn_by_both(family, parts)
    assert not torch.allclose(ours, plain, atol=3e-4), "guidance that shows nothing"
    assert torch.allclose(ours, theirs, atol=2e-5)


def test_sides_that_the_model_cannot_take_are_drawn_shorter(family: ModelFamily) -> None:
    parts = family.tiny()
    (row,) = family.encode_text(parts, ["a red cat"])
    edge = EDGE + family.divisor // 2
    (image,) = Artist(family, parts, "fp32").draw(
        [row], row, seeds=[7], steps=1, guidance=1.0, width=edge, height=EDGE - 1
    )
    assert image.size == (edge // family.divisor * family.divisor, max(family.divisor, EDGE - family.divisor))


def test_scaling_of_latents_is_undone(family: ModelFamily) -> None:
    parts = family.tiny()
    shape = family.latent_shape(parts, EDGE, EDGE)
    latents = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    back = family.normalise(parts, family.denormalise(parts, latents))
    assert torch.allclose(back, latents, atol=1e-5)
    raw = family.denormalise(parts, latents)
    assert raw.shape != latents.shape or not torch.allclose(raw, latents, atol=1e-2)


def test_encoded_picture_is_decoded_as_the_vae_does(family: ModelFamily) -> None:
    parts = family.tiny()
    with torch.no_grad():
        pixels = torch.rand(1, 3, EDGE, EDGE, generator=torch.Generator().manual_seed(0)) * 2 - 1
        latents = family.encode_image(parts, pixels)
        assert tuple(latents.shape[1:]) == family.latent_shape(parts, EDGE, EDGE)
        assert family.decode_image(parts, latents).shape == pixels.shape
        assert torch.equal(latents, family.encode_image(parts, pixels)), "the same picture, other latents"


def test_saved_model_computes_the_same(family: ModelFamily, bases: dict[str, Path]) -> None:
    tiny, loaded = family.tiny(), family.load(bases[family.name], device=CPU, dtype=torch.float32)
    with torch.no_grad():
        ours = family.forward(tiny, *inputs_of(family, tiny))
        assert torch.equal(ours, family.forward(loaded, *inputs_of(family, loaded)))
    assert loaded.process.objective == tiny.process.objective


def test_conditioning_does_not_grow(family: ModelFamily) -> None:
    parts = family.tiny()
    shapes = {
        tuple(
            tuple(t.shape)
            for t in family.collate_text(rows_of(family, parts, "one", "a longer one")).values()
        )
        for _ in range(3)
    }
    assert len(shapes) == 1
    rows = family.encode_text(parts, ["one", "two", "three"])
    assert len(rows) == 3, "one row each"


def test_a_row_is_the_same_alone_and_among_others(family: ModelFamily) -> None:
    parts = family.tiny()
    with torch.no_grad():
        noised, t, _ = inputs_of(family, parts)
        both = family.forward(
            parts, noised, t, family.collate_text(rows_of(family, parts, "a red cat", "two words"))
        )
        for index, prompt in enumerate(("a red cat", "two words")):
            alone = family.collate_text(rows_of(family, parts, prompt))
            one = family.forward(parts, noised[index : index + 1], t[index : index + 1], alone)
            assert torch.allclose(one[0], both[index], atol=1e-5)


def test_noise_level_and_text_change_the_prediction(family: ModelFamily) -> None:
    parts = family.tiny()
    noised, t, text = inputs_of(family, parts)
    with torch.no_grad():
        there = family.forward(parts, noised, t, text)
        assert there.shape == noised.shape
        assert not torch.allclose(there, family.forward(parts, noised, t.flip(0), text), atol=1e-5)
        other = family.collate_text(rows_of(family, parts, "a blue dog on a hill", "x"))
        assert not torch.allclose(there, family.forward(parts, noised, t, other), atol=1e-6)


# -- the adapter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", ["attn", "attn-mlp", "all"])
def test_fresh_adapter_changes_nothing(family: ModelFamily, pictures: Path, targets: str) -> None:
    parts = family.tiny()
    with torch.no_grad():
        before = family.forward(parts, *inputs_of(family, parts))
        spec = make_spec(Path(family.name), pictures, method=method_of(family, targets=targets))
        adapter = load_method("lora").attach(family, parts, spec)
        after = family.forward(parts, *inputs_of(family, parts))
    assert adapter.modules == KNOWN[family.name].modules[targets]
    assert torch.equal(before, after)


def test_adapter_switched_off_is_the_base(family: ModelFamily, pictures: Path) -> None:
    parts = family.tiny()
    noised, t, text = inputs_of(family, parts)
    with torch.no_grad():
        before = family.forward(parts, noised, t, text)
        spec = make_spec(Path(family.name), pictures, method={"targets": "all"})
        adapter = load_method("lora").attach(family, parts, spec)
        perturb(adapter)
        assert not torch.allclose(before, family.forward(parts, noised, t, text))
        with adapter.disabled():
            assert torch.equal(before, family.forward(parts, noised, t, text))


def test_only_the_adapter_has_gradients_and_all_of_it_is_fp32(family: ModelFamily, build: Build) -> None:
    trainer = build(family.name, method=method_of(family))
    trainer.computer.backward(0, 4)
    trained = {id(p) for p in trainer.optimizer.parameters}
    for model in trainer.parts.adaptable.values():
        for parameter in model.parameters():
            assert parameter.requires_grad == (id(parameter) in trained)
    assert {p.dtype for p in trainer.optimizer.parameters} == {torch.float32}
    pairs = [(n, p) for group in trainer.adapter.groups() for n, p in group.parameters]
    idle = [n for n, p in pairs if "lora_B" in n and (p.grad is None or not p.grad.any())]
    assert len(idle) == KNOWN[family.name].idle, idle
    assert not any(p.grad is not None and p.grad.any() for n, p in pairs if "lora_A" in n)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_add_up_to_the_batch(family: ModelFamily, build: Build, micro_batch: int) -> None:
    trainer = build(
        family.name, method={"targets": "all"},
        training={"batch_size": 4, "gradient_accumulation": 2, "noise_offset": 0.1},
    )  # fmt: skip
    perturb(trainer)
    assert_parts_add_up(trainer, 8, micro_batch)


def test_gradient_checkpointing_changes_no_gradient(family: ModelFamily, build: Build) -> None:
    gradients, computed = [], []
    for level in ("off", "blocks", "all"):
        trainer = build(family.name, training={"gradient_checkpointing": level})
        perturb(trainer)
        layers: list[nn.Module] = []
        for layer in trainer.parts.denoiser.modules():
            layer.register_forward_hook(lambda layer, *_, layers=layers: layers.append(layer))  # type: ignore[misc]
        trainer.computer.backward(0, 4)
        gradients.append([p.grad for p in trainer.optimizer.parameters if p.grad is not None])
        computed.append(len(layers))
    # A model with one block of a kind has nothing between the last two levels.
    assert computed[0] < computed[1] <= computed[2], (
        "a level computes no more layers again than the one before"
    )
    for level in gradients[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients[0], level, strict=True))
