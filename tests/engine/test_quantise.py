"""Quantised base models: what is quantised, that a run on one learns, resumes and exports, and what is missing told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from training.engine.blocks import block_classes, block_linears, blocks
from training.engine.errors import ConfigurationError
from training.engine.export.factors import read_factors
from training.engine.extras import is_installed
from training.engine.families.base import ModelFamily, View
from training.engine.quantise import LIBRARIES, quantise
from training.engine.spec import RunSpec

from .conftest import CPU, Build, assert_equal, make_spec, recorded, weights

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not is_installed(library), reason="the extra gpu is missing"))
    for kind, library in LIBRARIES.items()
]


def test_blocks_are_those_that_diffusers_names_or_the_members_of_the_models_lists(
    family: ModelFamily,
) -> None:
    denoiser = family.tiny().denoiser
    found = blocks(denoiser)
    assert found
    assert {type(block).__name__ for block in found} <= block_classes(denoiser)
    inner = [module for block in found for module in block.modules()]
    assert len(inner) == len(set(inner)), "a block lies within another"
    lists = nn.Module()
    lists.layers = nn.ModuleList([nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))])
    assert block_classes(lists) == {"Sequential"}
    assert list(block_linears(lists)) == ["layers.0.0", "layers.1.0"]


def test_first_parameter_of_a_model_lies_outside_of_its_blocks(family: ModelFamily) -> None:
    denoiser = family.tiny().denoiser
    first = next(denoiser.parameters())
    assert all(first is not parameter for block in blocks(denoiser) for parameter in block.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_only_linear_layers_in_blocks_are_quantised_and_the_model_stays_close(
    kind: str, family: ModelFamily
) -> None:
    parts = family.tiny()
    view = family.geometry(parts, View.whole(32, 32))
    text = family.collate_text([{**row, **view} for row in family.encode_text(parts, ["a red cat"] * 2)])
    noised = torch.randn((2, *family.latent_shape(parts, 32, 32)), generator=torch.Generator().manual_seed(1))
    t = parts.process.timesteps(torch.tensor([0.1, 0.8], dtype=torch.float64))
    inside = set(block_linears(parts.denoiser))
    others = {
        name: parameter.clone() for name, parameter in parts.denoiser.named_parameters()
        if name.rpartition(".")[0] not in inside
    }  # fmt: skip
    with torch.no_grad():
        plain = family.forward(parts, noised, t, text)
        quantise(parts.denoiser, kind, CPU)
        small = family.forward(parts, noised, t, text)
    now = dict(parts.denoiser.named_parameters())
    assert_equal(others, {name: now[name] for name in others})
    assert not any(parameter.requires_grad for parameter in now.values())
    assert next(parts.denoiser.parameters()).dtype == torch.float32
    assert set(block_linears(parts.denoiser)) == inside
    error = float((small - plain).norm() / plain.norm())
    assert 0 < error < {"int8": 0.02, "nf4": 0.2}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_run_on_a_quantised_base_learns_resumes_and_is_exported(
    kind: str, family: ModelFamily, build: Build, tmp_path: Path
) -> None:
    sections: dict[str, Any] = {
        "base_model": {"quantise": kind}, "training": {"steps": 4}, "checkpoint": {"every_steps": 2}
    }  # fmt: skip
    whole = build(family.name, run="whole", **sections)
    assert recorded(whole).of("memory")[0].quantise == kind
    fresh = weights(whole)
    whole.train()
    assert any(not torch.equal(fresh[name], tensor) for name, tensor in weights(whole).items())
    again = build(
        family.name, run="again", resume_from=tmp_path / "whole/checkpoints/step-00000002", **sections
    )
    assert again.state.quantise == kind
    again.train()
    assert_equal(weights(whole), weights(again))
    # The file is compared on a fresh base that is quantised alike.
    assert read_factors(whole.export_lora_weights())


@pytest.mark.parametrize("kind", list(LIBRARIES))
def test_missing_library_is_named_with_the_extra_that_brings_it(
    kind: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[kind], None)
    with pytest.raises(ConfigurationError) as caught:
        build(base_model={"quantise": kind})
    assert caught.value.code == "extra_missing"
    assert LIBRARIES[kind] in caught.value.message
    assert "'gpu'" in str(caught.value.hint)
    assert caught.value.patch == {"/base_model/quantise": "none"}


@pytest.mark.parametrize("kind", KINDS)
def test_model_without_blocks_cannot_be_quantised(kind: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        quantise(nn.Sequential(nn.Conv2d(2, 2, 1)), kind, CPU)
    assert (caught.value.code, caught.value.patch) == (
        "quantise_unsupported",
        {"/base_model/quantise": "none"},
    )


def test_another_quantisation_is_another_recipe_and_is_named(
    pictures: Path, build: Build, tmp_path: Path
) -> None:
    def spec(kind: str) -> RunSpec:
        return make_spec(Path("sd"), pictures, base_model={"quantise": kind})

    assert spec("none").recipe_sha256() != spec("int8").recipe_sha256()
    build(run="a").train()
    with pytest.raises(ConfigurationError, match='/base_model/quantise was "none", is "auto"'):
        build(run="b", base_model={"quantise": "auto"}, resume_from=tmp_path / "a" / "checkpoints")
