"""Gradient checkpointing in levels: which blocks are computed twice, and what older recipes meant by it."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn

from training.engine import checkpoint
from training.engine.recompute import set_level
from training.engine.spec import RunSpec

from .conftest import Build, assert_equal, make_spec, weights


def transformer() -> nn.Module:
    """A FLUX of two double and three single blocks, whose checkpointing flag is on the model, not on its blocks."""
    torch.manual_seed(0)
    model: nn.Module = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=3, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[2, 2, 4],
    )  # type: ignore[no-untyped-call]  # fmt: skip
    return model


def gradients_and_calls(model: nn.Module) -> tuple[torch.Tensor, list[int]]:
    """Return the gradient of the first block's weights, and how often each block was computed."""
    blocks = [*model.transformer_blocks, *model.single_transformer_blocks]  # type: ignore[misc]
    calls = [0] * len(blocks)
    handles = []
    for place, block in enumerate(blocks):

        def count(*_: object, place: int = place) -> None:
            calls[place] += 1

        handles.append(block.register_forward_pre_hook(count))
    generator = torch.Generator().manual_seed(1)
    out = model(
        hidden_states=torch.randn(1, 4, 4, generator=generator), timestep=torch.tensor([0.5]),
        encoder_hidden_states=torch.randn(1, 3, 16, generator=generator),
        pooled_projections=torch.randn(1, 16, generator=generator),
        img_ids=torch.zeros(4, 3), txt_ids=torch.zeros(3, 3), return_dict=False,
    )[0]  # fmt: skip
    model.zero_grad()
    out.square().sum().backward()
    for handle in handles:
        handle.remove()
    gradient = blocks[0].attn.to_q.weight.grad
    return gradient.clone(), calls


def test_levels_compute_no_block_every_other_and_all_of_them_twice() -> None:
    model = transformer()
    found = {}
    for level in ("off", "blocks", "all", "off"):
        assert set_level(model, level)
        for _ in range(2):  # the second pass numbers no block anew
            found[level] = gradients_and_calls(model)
    assert {level: calls for level, (_, calls) in found.items()} == {
        "off": [1, 1, 1, 1, 1],
        "blocks": [2, 1, 2, 1, 2],
        "all": [2, 2, 2, 2, 2],
    }
    assert torch.equal(found["off"][0], found["blocks"][0])
    assert torch.equal(found["off"][0], found["all"][0])


def test_model_without_such_blocks_says_so() -> None:
    assert not set_level(nn.Linear(2, 2), "all")


@pytest.mark.parametrize(
    ("written", "level"),
    [
        ("true", "all"),
        ("false", "off"),
        ("off", "off"),
        ("on", "all"),
        ("blocks", "blocks"),
        ("'all'", "all"),
    ],
)
def test_older_recipes_and_yaml_switches_are_read(pictures: Path, written: str, level: str) -> None:
    plain = make_spec(Path("sd"), pictures, training={"gradient_checkpointing": "off"}).to_yaml()
    assert "gradient_checkpointing: 'off'" in plain
    text = plain.replace("gradient_checkpointing: 'off'", f"gradient_checkpointing: {written}")
    assert RunSpec.from_yaml(text).training.gradient_checkpointing == level
    assert RunSpec.from_yaml(RunSpec.from_yaml(text).to_yaml()).training.gradient_checkpointing == level


def as_written_before(folder: Path, *, on: bool) -> None:
    """Turn a checkpoint into one of a time when checkpointing was a switch and some settings did not exist."""
    path = folder / "state.json"
    content = json.loads(path.read_text())
    training = content["identity"]["recipe"]["training"]
    content["gradient_checkpointing"] = training["gradient_checkpointing"] = on
    for name in ("optimizer", "schedule_restarts", "schedule_power", "ema_decay", "offload", "compile"):
        del training[name]
    del content["identity"]["recipe"]["base_model"]["quantise"]
    for name in ("quantise", "offload", "compile"):
        del content[name]
    path.write_text(json.dumps(content))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = checkpoint._fingerprint(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("on", [False, True])
def test_run_from_before_goes_on_to_the_same_weights(build: Build, tmp_path: Path, on: bool) -> None:
    whole = build(run="whole", training={"gradient_checkpointing": on})
    whole.train()
    folder = tmp_path / "whole" / "checkpoints" / "step-00000003"
    as_written_before(folder, on=on)
    again = build(run="again", training={"gradient_checkpointing": on}, resume_from=folder)
    assert (again.state.step, again.state.gradient_checkpointing) == (3, "all" if on else "off")
    again.train()
    assert_equal(weights(whole), weights(again))
