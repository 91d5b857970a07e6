"""What every model family must satisfy: noise, times, data, and whole runs."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from training.engine.data.pictures import load_pixels
from training.engine.diffusion import DiscreteProcess, FlowProcess
from training.engine.export import verify
from training.engine.export.weights_file import read_metadata
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.loss import per_sample_loss

from .conformance import EDGE, inputs_of, method_of, perturb
from .conftest import CPU, Build, assert_equal, recorded, weights
from .known_families import KNOWN

# -- noise, times and data -------------------------------------------------------------------------------------------


def test_perfect_prediction_has_no_loss_and_draws_the_picture(family: ModelFamily) -> None:
    parts = family.tiny()
    process = parts.process
    shape = family.latent_shape(parts, EDGE, EDGE)
    x0, start = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(5))
    for u in (0.1, 0.5, 0.9):
        t = process.timesteps(torch.tensor([u], dtype=torch.float64))
        noised, target = process.add_noise(x0, start, t), process.target(x0, start, t)
        assert per_sample_loss(target, target).tolist() == [0.0]
        assert torch.allclose(_oracle(process, noised, x0, t), target, atol=2e-3)
    scheduler = family.sampler(parts, 10, shape)
    x = start.clone()
    for step in scheduler.timesteps:
        t = process.from_scheduler(step).view(1)
        x = scheduler.step(_oracle(process, x, x0, t), step, x).prev_sample
    assert torch.allclose(x, x0, atol=0.15)


def _oracle(process: object, noised: torch.Tensor, x0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return what a model that knows the clean latents would predict, from the definitions of eps, v and flow."""
    if isinstance(process, FlowProcess):
        return (noised - x0) / t
    assert isinstance(process, DiscreteProcess)
    alpha = process.alphas_cumprod[t]
    noise = (noised - alpha.sqrt() * x0) / (1 - alpha).sqrt()
    return noise if process.objective == "eps" else alpha.sqrt() * noise - (1 - alpha).sqrt() * x0


@pytest.mark.parametrize("sampling", ["uniform", "logit_normal"])
def test_times_are_spread_as_told_and_moved_once(
    family: ModelFamily, build: Build, monkeypatch: pytest.MonkeyPatch, sampling: str
) -> None:
    trainer = build(family.name, training={"timestep_sampling": sampling, "timestep_shift": 3.0})
    seen: list[float] = []
    plain = family.__class__.forward

    def forward(
        self: ModelFamily, parts: Parts, noised: torch.Tensor, t: torch.Tensor, text: TextRow
    ) -> torch.Tensor:
        seen.extend(t.tolist())
        return plain(self, parts, noised, t, text)

    monkeypatch.setattr(family.__class__, "forward", forward)
    draws = trainer.computer.draws(0)[0]
    with torch.no_grad():
        trainer.computer.losses(draws)
    normal = torch.distributions.Normal(0.0, 1.0)
    for draw, t in zip(draws, seen, strict=True):
        u = torch.tensor(draw.u, dtype=torch.float64)
        if sampling == "logit_normal":
            u = torch.sigmoid(normal.icdf(u))
        moved = 3.0 * u / (1.0 + 2.0 * u)
        flow = trainer.parts.process.objective == "flow"
        assert t == pytest.approx(float(moved), abs=1e-5) if flow else t == int(1000 * moved)


def test_shift_of_a_picture_is_that_of_its_scheduler(family: ModelFamily) -> None:
    parts = family.tiny()
    shape = family.latent_shape(parts, EDGE, EDGE)
    sampler = family.sampler(parts, 4, shape)
    if parts.process.objective != "flow":
        assert family.shift(parts, shape) == 1.0
        return
    s = family.drawing_shift(parts, shape, 4)
    moved = [s * u / (1 + (s - 1) * u) for u in (1.0, 0.75, 0.5, 0.25)]
    if end := parts.scheduler_config.get("shift_terminal"):  # LTX stretches them so that the last is this
        moved = [1 - (1 - level) * (1 - end) / (1 - moved[-1]) for level in moved]
    assert sampler.sigmas.tolist()[:4] == pytest.approx(moved, abs=1e-6)


def test_latents_and_texts_are_those_of_the_picture(family: ModelFamily, build: Build) -> None:
    trainer = build(family.name, training={"flip": True, "batch_size": 3})
    dataset, parts = trainer.dataset, trainer.parts
    seen: dict[str, int] = {}
    for step in range(3 * dataset.plan.steps_per_epoch):
        for draw in (each for batch in trainer.computer.draws(step) for each in batch):
            item = draw.picture.item
            seen[item.path.name] = seen.get(item.path.name, 0) + 1
            with torch.no_grad():
                pixels = load_pixels(item.path, *draw.picture.bucket, flip=draw.flip)
                fresh = family.encode_image(parts, pixels.unsqueeze(0))[0]
            assert torch.allclose(dataset.latent(draw.picture, draw.flip), fresh, atol=1e-4)
            assert draw.text == f"inky, {item.caption}"
    assert sorted(seen.values()) == [3] * len(dataset.train)


def test_dropped_captions_are_the_empty_prompt(family: ModelFamily, build: Build) -> None:
    dropped = build(family.name, training={"caption_dropout": 1.0}, trigger="x")
    draws = dropped.computer.draws(0)[0]
    assert {draw.text for draw in draws} == {""}
    half = build(family.name, run="half", training={"caption_dropout": 0.5, "batch_size": 10}, trigger="x")
    texts = [d.text for step in range(20) for batch in half.computer.draws(step) for d in batch]
    assert 0.35 < texts.count("") / len(texts) < 0.65
    with torch.no_grad():
        fresh = family.encode_text(dropped.parts, [""])[0]
    assert all(
        torch.allclose(dropped.dataset.text_row("")[name], row, atol=1e-5) for name, row in fresh.items()
    )


@pytest.mark.parametrize("accumulation", [1, 2])
def test_learning_rate_follows_its_closed_form(family: ModelFamily, build: Build, accumulation: int) -> None:
    trainer = build(
        family.name,
        training={"steps": 4, "batch_size": 2, "gradient_accumulation": accumulation, "schedule": "linear",
                  "warmup_steps": 1, "learning_rate": 1e-3},
    )  # fmt: skip
    trainer.train()
    assert list(recorded(trainer).curve("learning_rate").values()) == pytest.approx(
        [0.5e-3, 1e-3, 2e-3 / 3, 1e-3 / 3], rel=1e-4
    )


def test_gradients_are_clipped(family: ModelFamily, build: Build) -> None:
    trainer = build(family.name, training={"max_grad_norm": 1e-4})
    trainer.computer.backward(0, 4)
    before = float(trainer.optimizer.clip())
    assert before > 1e-3
    after = [p.grad for p in trainer.optimizer.parameters if p.grad is not None]
    assert float(torch.stack([g.norm() for g in after]).norm()) == pytest.approx(1e-4, rel=1e-3)


# -- whole runs ------------------------------------------------------------------------------------------------------


def test_resumed_run_ends_with_the_same_weights(family: ModelFamily, build: Build, tmp_path: Path) -> None:
    training = {"caption_dropout": 0.3, "flip": True, "warmup_steps": 2}
    whole = build(family.name, run="whole", training=training)
    whole.train()
    again = build(
        family.name, run="again", training=training,
        resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003",
    )  # fmt: skip
    assert again.state.step == 3
    assert recorded(again).of("plan")[0].resumed_from_step == 3
    again.train()
    assert_equal(weights(whole), weights(again))
    assert recorded(again).curve("loss") == {k: v for k, v in recorded(whole).curve("loss").items() if k > 3}


def test_training_lowers_the_loss_on_what_it_saw(family: ModelFamily, build: Build) -> None:
    trainer = build(
        family.name, method={"targets": "all"}, training={"steps": 40, "learning_rate": 1e-2, "held_out": 0.2}
    )
    trainer.train()
    held_out = recorded(trainer).curve("held_out_loss")
    assert held_out[40] < 0.99 * held_out[0]


@pytest.mark.parametrize("dtype", ["fp32", "auto"])
def test_exported_file_has_the_trained_effect(family: ModelFamily, build: Build, dtype: str) -> None:
    for layout in family.exports:
        trainer = build(
            family.name,
            run=layout,
            method=method_of(family, alpha=30.0),
            output={"dtype": dtype, "layout": layout},
        )
        trainer.train()
        perturb(trainer)
        path, _, factors, _ = trainer._write_export("x", trainer.state.step)
        text = trainer.text_rows([""])[0]
        error = verify.verify_effect(
            factors, family, trainer.table, trainer.parts, trainer.adapter, text, "fp32"
        )
        assert error < (1e-5 if dtype == "fp32" else 1e-2)  # bf16 rounds a factor by 2^-9; 6e-3 was seen
        assert read_metadata(path)["ss_network_alpha"] == "30.0"


def test_diffusers_reads_the_file_and_gets_the_same_effect(
    family: ModelFamily, build: Build, bases: dict[str, Path]
) -> None:
    known = KNOWN[family.name]
    for layout in [each for each in family.exports if each not in known.not_for_diffusers]:
        trainer = build(
            family.name, run=layout, method=method_of(family, alpha=30.0), training={"steps": 1},
            output={"dtype": "fp32", "layout": layout},
        )  # fmt: skip
        trainer.train()
        perturb(trainer)  # a short training changes less than rounding lets compare
        path, *_ = trainer._write_export("x", trainer.state.step)
        fresh = family.load(bases[family.name], device=CPU, dtype=torch.float32)
        pipeline = fresh.pipeline(getattr(diffusers, known.pipeline))
        with torch.no_grad():
            base = family.forward(fresh, *inputs_of(family, fresh))
            if hasattr(pipeline, "load_lora_weights"):
                pipeline.load_lora_weights(path)
            else:
                read_by_peft(fresh.denoiser, path)
            theirs = family.forward(fresh, *inputs_of(family, fresh))
            ours = family.forward(trainer.parts, *inputs_of(family, trainer.parts))
        effect = float((ours - base).norm())
        assert effect > 0.1 * float(base.norm())
        assert float((theirs - ours).norm()) < 1e-5 * effect, layout


def read_by_peft(model: nn.Module, path: Path) -> None:
    """Put a file on a model of diffusers whose pipeline reads none, as whoever uses it must."""
    content = {key.removeprefix("transformer."): tensor for key, tensor in load_file(path).items()}
    names = [key.removesuffix(".lora_A.weight") for key in content if key.endswith(".lora_A.weight")]
    rank = content[f"{names[0]}.lora_A.weight"].shape[0]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), model)
    assert set_peft_model_state_dict(model, content).unexpected_keys == []


def test_model_saved_as_the_fp16_variant_is_loaded_whole(family: ModelFamily, tmp_path: Path) -> None:
    tiny = family.tiny()
    family.save(tiny, tmp_path)
    models = {name: each for name, each in tiny.components.items() if isinstance(each, nn.Module)}
    for name, model in models.items():
        for file in (tmp_path / name).glob("*.safetensors"):
            file.unlink()
        model.half().save_pretrained(tmp_path / name, variant="fp16")  # type: ignore[operator]
        assert [".fp16." in file.name for file in (tmp_path / name).glob("*.safetensors")] == [True]
    loaded = family.load(tmp_path, device=CPU, dtype=torch.float32)
    for name, model in models.items():
        assert_equal(
            {key: tensor.float() for key, tensor in model.state_dict().items()},
            {key: tensor.float() for key, tensor in loaded.components[name].state_dict().items()},
        )
