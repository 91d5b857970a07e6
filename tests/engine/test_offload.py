"""Weights that wait in the host's memory: which move, which stay, and that nothing else changes.

Here the host's memory is the device as well; that tensors are where they are needed on a GPU is not shown by this.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import GroupOffloadingHook
from torch import nn

from training.engine import foundation
from training.engine.blocks import blocks
from training.engine.families.base import ModelFamily, View
from training.engine.memory_plan import MemoryPlan
from training.engine.methods.base import Adapter
from training.engine.offload import offload
from training.engine.recompute import set_level
from training.engine.registry import load_method
from training.engine.spec import validate

from .conftest import CPU, Build, make_spec, recorded


def onloads(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return a list that grows by each layer whose weights are brought."""
    seen: list[nn.Module] = []
    before = GroupOffloadingHook.pre_forward

    def watched(self: Any, module: nn.Module, *args: Any, **options: Any) -> Any:
        seen.append(module)
        return before(self, module, *args, **options)

    monkeypatch.setattr(GroupOffloadingHook, "pre_forward", watched)
    return seen


def gradients(family: ModelFamily, parts: Any, adapter: Adapter) -> list[torch.Tensor]:
    """Return the adapter's gradients of a fixed loss, every block computed twice."""
    set_level(parts.denoiser, "all")
    view = family.geometry(parts, View.whole(32, 32))
    text = family.collate_text([{**row, **view} for row in family.encode_text(parts, ["a red cat"] * 2)])
    noised = torch.randn((2, *family.latent_shape(parts, 32, 32)), generator=torch.Generator().manual_seed(1))
    t = parts.process.timesteps(torch.tensor([0.1, 0.8], dtype=torch.float64))
    family.forward(parts, noised, t, text).square().mean().backward()
    own = [p for group in adapter.groups() for _, p in group.parameters]
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in own]


def test_blocks_layers_move_and_the_adapter_does_not(
    family: ModelFamily, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(pictures, pictures, method={"targets": "attn-mlp"})
    found = []
    seen: list[nn.Module] = []
    for away in (False, True):
        parts = family.tiny()
        within = {module for block in blocks(parts.denoiser) for module in block.modules()}
        if away:
            seen = onloads(monkeypatch)
            offload(parts.denoiser, CPU)
        adapter = load_method("lora").attach(family, parts, spec)
        found.append(gradients(family, parts, adapter))
        if away:
            moved = set(seen)
            adapted = {id(p) for group in adapter.groups() for _, p in group.parameters}
            assert moved
            assert moved <= within
            assert not any(id(p) in adapted for module in moved for p in module.parameters(recurse=False))
            # The forward pass, and once more in the backward pass.
            assert all(seen.count(module) >= 2 for module in moved if isinstance(module, nn.Linear))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_fresh_denoiser_of_a_verification_is_held_alike(family: ModelFamily, bases: Any) -> None:
    plain = MemoryPlan("fp32", "none", "off", "off", 1)
    assert foundation.alike(family, plain) is family
    away = foundation.alike(family, MemoryPlan("fp32", "none", "on", "all", 1))
    fresh = away.load_denoiser(bases[family.name], device=CPU, dtype=torch.float32)
    assert any(hasattr(module, "_diffusers_hook") for block in blocks(fresh) for module in block.modules())
    assert not hasattr(fresh, "_diffusers_hook")


def test_a_processor_has_nothing_to_offload_to(build: Build) -> None:
    trainer = build(training={"offload": "on"})
    assert recorded(trainer).of("memory")[0].offload == "off"


def test_adapter_of_a_rolled_back_run_is_on_the_device_again(build: Build) -> None:
    trainer = build()
    placed: list[torch.device] = []
    place = trainer._place_adapter

    def watched() -> None:
        place()
        placed.append(next(iter(trainer.optimizer.parameters)).device)

    trainer._place_adapter = watched  # type: ignore[method-assign]
    assert trainer.roll_back() == 0
    assert placed == [CPU]


def test_offload_and_compile_exclude_each_other(pictures: Any) -> None:
    plain = make_spec(pictures, pictures).to_dict()
    training = {**plain["training"], "offload": "auto", "compile": "regional"}
    assert [(e.pointer, e.code) for e in validate({**plain, "training": training})] == [
        ("/training/compile", "conflict")
    ]
