"""What every model family must satisfy; a family that registers gets these tests for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.engine.diffusion import per_sample_loss
from training.engine.export import kohya, verify
from training.engine.families.base import ModelFamily, Parts
from training.engine.registry import load_method

from .conftest import CPU, Build, assert_equal, make_spec, recorded, weights


def _inputs(family: ModelFamily, parts: Parts) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    shape = family.latent_shape(parts, 32, 32)
    noised = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1))
    text = family.collate_text(family.encode_text(parts, ["a red cat", ""]))
    return noised, torch.tensor([10, 900]), text


def _perturb(trainer_or_adapter: object) -> None:
    """Give the up factors values, as if something was learned."""
    adapter = getattr(trainer_or_adapter, "adapter", trainer_or_adapter)
    state = adapter.state_dict()
    for number, (name, tensor) in enumerate(sorted(state.items())):
        if "lora_B" in name:
            state[name] = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number)) * 0.1
    adapter.load_state_dict(state)


@pytest.mark.parametrize("targets", ["attn", "attn-mlp", "all"])
def test_fresh_adapter_changes_nothing(family: ModelFamily, pictures: Path, targets: str) -> None:
    parts = family.tiny()
    noised, t, text = _inputs(family, parts)
    with torch.no_grad():
        before = family.forward(parts, noised, t, text)
        spec = make_spec(Path(family.name), pictures, method={"targets": targets, "text_encoder": True})
        adapter = load_method("lora").attach(family, parts, spec)
        after = family.forward(
            parts, noised, t, family.collate_text(family.encode_text(parts, ["a red cat", ""]))
        )
    assert adapter.modules > 0
    assert torch.equal(before, after)


def test_adapter_switched_off_is_the_base(family: ModelFamily, pictures: Path) -> None:
    parts = family.tiny()
    noised, t, text = _inputs(family, parts)
    with torch.no_grad():
        before = family.forward(parts, noised, t, text)
        adapter = load_method("lora").attach(
            family, parts, make_spec(Path(family.name), pictures, method={"targets": "all"})
        )
        _perturb(adapter)
        assert not torch.allclose(before, family.forward(parts, noised, t, text))
        with adapter.disabled():
            assert torch.equal(before, family.forward(parts, noised, t, text))


def test_only_the_adapter_has_gradients_and_all_of_it_is_fp32(family: ModelFamily, build: Build) -> None:
    trainer = build(family.name, method={"targets": "all", "text_encoder": True})
    trainer.computer.backward(0, 4)
    trained = {id(p) for p in trainer.optimizer.parameters}
    for model in trainer.parts.adaptable.values():
        for parameter in model.parameters():
            assert parameter.requires_grad == (id(parameter) in trained)
            assert (parameter.grad is not None) == (id(parameter) in trained)
    assert {p.dtype for p in trainer.optimizer.parameters} == {torch.float32}
    ups = [p.grad.abs().sum() for name, p in trainer.adapter.groups()[0].parameters if "lora_B" in name]
    downs = [p.grad.abs().sum() for name, p in trainer.adapter.groups()[0].parameters if "lora_A" in name]
    assert all(float(g) > 0 for g in ups)
    assert all(float(g) == 0 for g in downs)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_oracle_prediction_has_no_loss_and_gives_the_picture_back(
    family: ModelFamily, prediction: str
) -> None:
    parts = family.tiny()
    process = type(parts.process)(parts.process.alphas_cumprod, prediction)  # type: ignore[arg-type]
    x0, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor([1, 500, 990])
    noised, target = process.add_noise(x0, noise, t), process.target(x0, noise, t)
    assert per_sample_loss(target, target).tolist() == [0.0, 0.0, 0.0]
    alpha = process.alphas_cumprod[t].view(-1, 1, 1, 1)
    if prediction == "v":
        recovered = alpha.sqrt() * noised - (1 - alpha).sqrt() * target
    else:
        recovered = (noised - (1 - alpha).sqrt() * target) / alpha.sqrt()
    assert torch.allclose(recovered, x0, atol=2e-4)


def test_sampler_with_an_oracle_draws_the_latents_it_was_made_for(family: ModelFamily) -> None:
    parts = family.tiny()
    x0 = torch.randn(1, *family.latent_shape(parts, 32, 32))
    scheduler = family.sampler(parts, 10)
    x = torch.randn_like(x0)
    for t in scheduler.timesteps:
        alpha = parts.process.alphas_cumprod[t]
        noise = (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()
        oracle = parts.process.target(x0, noise, t.view(1))
        x = scheduler.step(oracle, t, x).prev_sample
    assert torch.allclose(x, x0, atol=0.15)


def test_scaling_of_latents_is_undone(family: ModelFamily) -> None:
    parts = family.tiny()
    with torch.no_grad():
        pixels = torch.rand(1, 3, 32, 32) * 2 - 1
        latents = family.encode_image(parts, pixels)
        assert tuple(latents.shape[1:]) == family.latent_shape(parts, 32, 32)
        raw = parts.vae.encode(pixels).latent_dist.mode()  # type: ignore[operator]
        direct = parts.vae.decode(raw).sample  # type: ignore[operator]
        assert torch.allclose(family.decode_image(parts, latents), direct, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_add_up_to_the_batch(family: ModelFamily, build: Build, micro_batch: int) -> None:
    trainer = build(
        family.name, method={"targets": "all"},
        training={"batch_size": 4, "gradient_accumulation": 2, "noise_offset": 0.1},
    )  # fmt: skip
    _perturb(trainer)
    gradients = []
    for size in (8, micro_batch):
        trainer.optimizer.zero_grad()
        loss = trainer.computer.backward(1, size)
        gradients.append((loss, [p.grad.clone() for p in trainer.optimizer.parameters if p.grad is not None]))
    (whole_loss, whole), (split_loss, split) = gradients
    assert torch.allclose(whole_loss, split_loss, rtol=1e-6)
    assert max(float((a - b).abs().max()) for a, b in zip(whole, split, strict=True)) < 1e-5


def test_gradient_checkpointing_changes_no_gradient(family: ModelFamily, build: Build) -> None:
    gradients, computed = [], []
    for on in (False, True):
        trainer = build(family.name, training={"gradient_checkpointing": on})
        _perturb(trainer)
        layers: list[nn.Module] = []
        for layer in trainer.parts.denoiser.modules():
            layer.register_forward_hook(lambda layer, *_, layers=layers: layers.append(layer))  # type: ignore[misc]
        trainer.computer.backward(0, 4)
        gradients.append([p.grad for p in trainer.optimizer.parameters])
        computed.append(len(layers))
    assert computed[1] > computed[0], "the backward pass computes no layer once more: it is not on"
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_conditioning_keeps_its_shape(family: ModelFamily) -> None:
    parts = family.tiny()
    shapes = set()
    for _ in range(3):
        rows = family.encode_text(parts, ["one", "a longer prompt, with more words than one"])
        shapes.add(tuple(tuple(t.shape) for t in family.collate_text(rows).values()))
    assert len(shapes) == 1


def test_resumed_run_ends_with_the_same_weights(family: ModelFamily, build: Build, tmp_path: Path) -> None:
    whole = build(
        family.name, run="whole", training={"caption_dropout": 0.3, "flip": True, "warmup_steps": 2}
    )
    whole.train()
    again = build(
        family.name, run="again", training={"caption_dropout": 0.3, "flip": True, "warmup_steps": 2},
        resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003",
    )  # fmt: skip
    assert again.state.step == 3
    assert recorded(again).of("plan")[0].resumed_from_step == 3
    again.train()
    assert_equal(weights(whole), weights(again))
    assert recorded(again).curve("loss") == {k: v for k, v in recorded(whole).curve("loss").items() if k > 3}


def test_training_lowers_the_loss_on_what_it_saw(family: ModelFamily, build: Build) -> None:
    trainer = build(family.name, training={"steps": 40, "learning_rate": 1e-2, "held_out": 0.2})
    trainer.train()
    held_out = recorded(trainer).curve("held_out_loss")
    assert held_out[40] < 0.97 * held_out[0]


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_exported_file_has_the_trained_effect(family: ModelFamily, build: Build, dtype: str) -> None:
    trainer = build(
        family.name, method={"alpha": 3.0, "targets": "all", "text_encoder": True}, output={"dtype": dtype}
    )
    trainer.train()
    path, _, factors = trainer._write_export("x", trainer.state.step)
    text = trainer.text_rows(["a cat"])[0]
    error = verify.verify_effect(factors, family, trainer.parts, trainer.adapter, text, "fp32")
    assert error < (1e-4 if dtype == "fp32" else 2e-3)
    assert len(factors) == trainer.adapter.modules
    assert kohya.read_metadata(path)["ss_network_alpha"] == "3.0"


def test_same_module_count_as_ever(family: ModelFamily, build: Build) -> None:
    counts = {
        targets: build(family.name, method={"targets": targets, "text_encoder": True}).adapter.modules
        for targets in ("attn", "attn-mlp", "all")
    }
    assert counts == {"sd": {"attn": 40, "attn-mlp": 60, "all": 91}}[family.name]


def test_saved_model_computes_the_same(family: ModelFamily, bases: dict[str, Path]) -> None:
    tiny, loaded = family.tiny(), family.load(bases[family.name], device=CPU, dtype=torch.float32)
    noised, t, text = _inputs(family, tiny)
    with torch.no_grad():
        assert torch.equal(
            family.forward(tiny, noised, t, text), family.forward(loaded, *_inputs(family, loaded))
        )
    assert loaded.process.objective == tiny.process.objective


def test_model_saved_as_the_fp16_variant_is_loaded_whole(family: ModelFamily, tmp_path: Path) -> None:
    tiny = family.tiny()
    family.save(tiny, tmp_path)
    for model, part in ((tiny.denoiser, "unet"), (tiny.vae, "vae"), (tiny.text_encoder, "text_encoder")):
        for file in (tmp_path / part).glob("*.safetensors"):
            file.unlink()
        model.half().save_pretrained(tmp_path / part, variant="fp16")  # type: ignore[operator]
        assert [".fp16." in file.name for file in (tmp_path / part).glob("*.safetensors")] == [True]
    loaded = family.load(tmp_path, device=CPU, dtype=torch.float32)
    for model, other in ((tiny.denoiser, loaded.denoiser), (tiny.text_encoder, loaded.text_encoder)):
        assert_equal(
            {name: tensor.float() for name, tensor in model.state_dict().items()}, dict(other.state_dict())
        )
