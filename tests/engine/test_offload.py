"""Weights that wait in the host's memory: which move, which stay, and that nothing else changes.

Here the host's memory is the device as well, so what lies there is made useless (NaN) by the tests. Streams and copies
to a GPU are diffusers' own and are not run here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch import nn

from training.engine import foundation
from training.engine.blocks import block_linears, blocks
from training.engine.families.base import ModelFamily, Parts, View
from training.engine.memory_plan import MemoryPlan
from training.engine.methods.base import Adapter
from training.engine.offload import offload
from training.engine.recompute import set_level
from training.engine.registry import load_method
from training.engine.spec import validate

from .conftest import CPU, Build, make_spec, recorded


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Let what is offloaded hold NaN until it is brought: a GPU could not use it; return the layers brought so far."""
    kept: dict[nn.Parameter, torch.Tensor] = {}
    brought: list[nn.Module] = []

    def onload(group: ModuleGroup) -> None:
        brought.extend(group.modules)
        for parameter in parameters(group):
            parameter.data = kept.pop(parameter, parameter.data)

    def offload(group: ModuleGroup) -> None:
        for parameter in parameters(group):
            kept.setdefault(parameter, parameter.data)
            parameter.data = torch.full_like(parameter.data, torch.nan)

    def parameters(group: ModuleGroup) -> list[nn.Parameter]:
        return [*(p for module in group.modules for p in module.parameters()), *group.parameters]

    monkeypatch.setattr(ModuleGroup, "_onload_from_memory", onload)
    monkeypatch.setattr(ModuleGroup, "_offload_to_memory", offload)
    return brought


def gradients(family: ModelFamily, parts: Parts, adapter: Adapter, level: str) -> list[torch.Tensor]:
    """Return the adapter's gradients of a fixed loss."""
    set_level(parts.denoiser, level)
    view = family.geometry(parts, View.whole(32, 32))
    text = family.collate_text([{**row, **view} for row in family.encode_text(parts, ["a red cat"] * 2)])
    noised = torch.randn((2, *family.latent_shape(parts, 32, 32)), generator=torch.Generator().manual_seed(1))
    t = parts.process.timesteps(torch.tensor([0.1, 0.8], dtype=torch.float64))
    own = [p for group in adapter.groups() for _, p in group.parameters]
    for p in own:
        p.grad = None
    family.forward(parts, noised, t, text).square().mean().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in own]


@pytest.mark.parametrize("level", ["all", "off"])
def test_blocks_layers_come_when_they_are_needed_and_the_adapter_stays(
    family: ModelFamily, pictures: Any, host: list[nn.Module], level: str
) -> None:
    spec = make_spec(pictures, pictures, method={"targets": "attn-mlp"})
    found = []
    for away in (False, True):
        parts = family.tiny()
        within = {module for block in blocks(parts.denoiser) for module in block.modules()}
        if away:
            offload(parts.denoiser, CPU)
        adapter = load_method("lora").attach(family, parts, spec)
        # A second pass finds the layers as the first one left them.
        found.append([gradients(family, parts, adapter, level) for _ in range(2)][-1])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    assert host
    assert set(host) <= within
    adapted = {id(p) for group in adapter.groups() for _, p in group.parameters}
    assert not any(id(p) in adapted for module in host for p in module.parameters(recurse=False))
    linears = [module for module in block_linears(parts.denoiser).values() if module in host]
    assert any(torch.isnan(module.weight).any() for module in linears), "nothing went back to the host"


def test_drawing_without_gradients_brings_the_layers_too(family: ModelFamily, host: list[nn.Module]) -> None:
    drawn = []
    for away in (False, True):
        parts = family.tiny()
        view = family.geometry(parts, View.whole(32, 32))
        text = family.collate_text([{**row, **view} for row in family.encode_text(parts, ["a cat"])])
        if away:
            offload(parts.denoiser, CPU)
        noised = torch.randn(
            (1, *family.latent_shape(parts, 32, 32)), generator=torch.Generator().manual_seed(1)
        )
        t = parts.process.timesteps(torch.tensor([0.5], dtype=torch.float64))
        with torch.no_grad():
            drawn.append(family.forward(parts, noised, t, text))
    assert torch.equal(*drawn)


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


@pytest.mark.parametrize(
    ("sections", "pointer"),
    [({"training": {"offload": "auto", "compile": "regional"}}, "/training/compile"),
     ({"training": {"offload": "on"}, "base_model": {"quantise": "int8"}}, "/base_model/quantise")],
)  # fmt: skip
def test_what_cannot_go_with_offloading_is_told(pictures: Any, sections: Any, pointer: str) -> None:
    plain = make_spec(pictures, pictures).to_dict()
    data = {**plain, **{name: {**plain[name], **settings} for name, settings in sections.items()}}
    assert [(error.pointer, error.code) for error in validate(data)] == [(pointer, "conflict")]
