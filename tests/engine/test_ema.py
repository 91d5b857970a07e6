"""The moving average is the closed form, is what leaves the run, and resumes to the bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from training.engine.ema import decay_at
from training.engine.methods.base import ParameterGroup
from training.engine.optimizer import Optimizer
from training.engine.spec import TrainingSpec, validate

from .conftest import Build, assert_equal, make_spec, weights

ON = {"ema_decay": 0.9, "learning_rate": 1e-2}


def test_decay_warms_up_to_the_one_that_was_asked_for() -> None:
    assert [decay_at(step, 0.5) for step in (0, 1, 2, 7, 8, 9, 1000)] == pytest.approx(
        [1 / 10, 2 / 11, 3 / 12, 8 / 17, 0.5, 0.5, 0.5]
    )


def test_average_of_three_steps_is_the_closed_form() -> None:
    p = nn.Parameter(torch.tensor([1.0, -4.0]))
    training = TrainingSpec(
        ema_decay=0.15, optimizer="lion", weight_decay=0.0, learning_rate=0.5, schedule="constant"
    )
    optimizer = Optimizer([ParameterGroup("denoiser", [("a", p)], 0.5)], training, 3)
    for step in range(3):
        p.grad = torch.tensor([1.0, -1.0])
        optimizer.step(step, torch.tensor(1.0))
    # The weights go by 0.5 against the sign: 1, 0.5, 0, -0.5; the average keeps 1/10 of itself, then 0.15.
    after = [0.1 * 1.0 + 0.9 * 0.5]
    after.append(0.15 * after[0] + 0.85 * 0.0)
    after.append(0.15 * after[1] + 0.85 * -0.5)
    assert p.tolist() == [-0.5, -2.5]
    with optimizer.averaged():
        assert p.tolist() == pytest.approx([after[2], -3.0 - after[2]])
    assert p.tolist() == [-0.5, -2.5]


def test_step_that_is_not_finite_moves_no_average() -> None:
    p = nn.Parameter(torch.tensor([1.0, -4.0]))
    optimizer = Optimizer([ParameterGroup("denoiser", [("a", p)], 0.5)], TrainingSpec(ema_decay=0.9), 9)
    for step in range(2):
        p.grad = torch.ones(2)
        optimizer.step(step, torch.tensor(1.0))
    before = optimizer.state_dict()
    p.grad = torch.full((2,), math.nan)
    optimizer.step(2, torch.tensor(math.inf))
    assert_equal(before, optimizer.state_dict())


def test_no_average_is_kept_when_it_is_off() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = Optimizer([ParameterGroup("denoiser", [("a", p)], 0.5)], TrainingSpec(), 9)
    p.grad = torch.ones(2)
    optimizer.step(0, torch.tensor(1.0))
    assert not [name for name in optimizer.state_dict() if "average" in name]


def test_resumed_run_ends_with_the_same_weights_and_the_same_average(build: Build, tmp_path: Path) -> None:
    whole = build(run="whole", training=ON)
    whole.train()
    again = build(run="again", training=ON, resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003")
    again.train()
    assert_equal(weights(whole), weights(again))
    assert_equal(whole.optimizer.state_dict(), again.optimizer.state_dict())


def test_what_is_drawn_and_exported_is_the_average(build: Build, tmp_path: Path) -> None:
    trainer: Any = build(
        run="a", training=ON, output={"dtype": "fp32"}, sampling={"prompts": ["a cat"], "every_steps": 6}
    )
    drawn: list[dict[str, torch.Tensor]] = []
    draw = trainer.artist.draw_clips

    def watched(*args: Any, **options: Any) -> Any:
        drawn.append(weights(trainer))
        return draw(*args, **options)

    trainer.artist.draw_clips = watched
    trainer.train()
    trained = weights(trainer)
    with trainer.optimizer.averaged():
        average = weights(trainer)
    assert all(not torch.equal(trained[name], average[name]) for name in trained)
    assert_equal(drawn[-1], average)
    file = load_file(trainer.export_lora_weights())
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    module = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    assert torch.equal(file[f"{stem}.lora_up.weight"], average[f"{module}.lora_B.weight"])
    checkpointed = load_file(tmp_path / "a" / "exports" / "tiny-step00000006.safetensors")
    assert_equal(checkpointed, file)
    # Exported again from the checkpoint, as `lora-train export` does, it is the average still.
    again = build(run="b", training=ON, output={"dtype": "fp32"}, sampling={"prompts": ["a cat"], "every_steps": 6},
                  resume_from=tmp_path / "a" / "checkpoints")  # fmt: skip
    assert_equal(load_file(again.export_lora_weights()), file)


def test_rolled_back_run_has_the_average_of_its_checkpoint(build: Build, tmp_path: Path) -> None:
    trainer = build(run="a", training=ON)
    trainer.train()
    saved = load_file(tmp_path / "a" / "checkpoints" / "step-00000006" / "optimizer.safetensors")
    trainer.computer.backward(0, 4)
    trainer.optimizer.step(6, trainer.optimizer.clip())
    assert trainer.roll_back() == 6
    assert_equal(trainer.optimizer.state_dict(), saved)


def test_average_of_averages_is_refused(pictures: Path) -> None:
    plain = make_spec(Path("sd"), pictures).to_dict()
    training = {**plain["training"], "optimizer": "schedule-free", "schedule": "constant", "ema_decay": 0.99}
    assert [(error.pointer, error.code) for error in validate({**plain, "training": training})] == [
        ("/training/ema_decay", "conflict")
    ]
