"""Every key of a full-size model's file is one that the reading programs know.

A text file for each family holds its denoiser's published configuration and, for each layout, the keys without their
suffix; ``{0..25}`` and ``{q,k,v}`` stand for each of their values. A file ``family@model`` is another model of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders import single_file_utils
from torch import nn

from training.engine.families.base import DENOISER, ModelFamily
from training.engine.methods.targets import LAYERS, matching_layers
from training.engine.registry import load_family

FOLDER = Path(__file__).parent / "key_names"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.txt"))


@dataclasses.dataclass(frozen=True)
class KnownKeys:
    """Be one text file: the full-size denoiser, and its keys by layout."""

    denoiser: nn.Module
    keys: dict[str, list[str]]


@cache
def known_keys(family: str) -> KnownKeys:
    """Read a family's file and build its denoiser without memory for weights."""
    lines = (FOLDER / f"{family}.txt").read_text().splitlines()
    model, *rest = [line for line in lines if line and not line.startswith("#")]
    name, _, config = model.partition(" ")
    with torch.device("meta"):
        denoiser: nn.Module = getattr(diffusers, name)(**json.loads(config))
    keys: dict[str, list[str]] = {}
    for line in rest:
        if line.startswith("["):
            keys[line.strip("[]")] = found = []
        else:
            found.extend(expanded(line))
    return KnownKeys(denoiser, keys)


def expanded(pattern: str) -> list[str]:
    """Write out ``{0..3}`` and ``{a,b}``."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [[part] if number % 2 == 0 else values_of(part) for number, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def values_of(inner: str) -> list[str]:
    if found := re.fullmatch(r"(\d+)\.\.(\d+)", inner):
        return [str(number) for number in range(int(found[1]), int(found[2]) + 1)]
    return inner.split(",")


def test_patterns_are_written_out() -> None:
    assert expanded("a.{0..2}.{q,k.0}") == ["a.0.q", "a.0.k.0", "a.1.q", "a.1.k.0", "a.2.q", "a.2.k.0"]


def trained_by_all(family: ModelFamily, denoiser: nn.Module) -> list[str]:
    """List the layers that the set "all" adapts."""
    names = [name for name, module in denoiser.named_modules() if isinstance(module, LAYERS)]
    return matching_layers(names, family.presets["all"][DENOISER])


@pytest.mark.parametrize("name", FAMILIES)
def test_keys_of_the_full_model_are_those_the_programs_read(name: str) -> None:
    family, known = load_family(name.partition("@")[0]), known_keys(name)
    assert set(family.exports) == set(known.keys)
    trained = trained_by_all(family, known.denoiser)
    for layout, table in family.exports.items():
        written = sorted({table.stem(DENOISER, module) for module in trained})
        assert written == sorted(known.keys[layout])


CONVERTERS = {
    "flux2": "convert_flux2_transformer_checkpoint_to_diffusers",
    "flux2-klein": "convert_flux2_transformer_checkpoint_to_diffusers",
    "lumina2": "convert_lumina2_to_diffusers",
    "ltx": "convert_ltx_transformer_checkpoint_to_diffusers",
    "wan": "convert_wan_transformer_to_diffusers",
}


@pytest.mark.parametrize("name", CONVERTERS)
def test_original_names_are_those_that_diffusers_converts(name: str) -> None:
    """What diffusers makes of a checkpoint with our keys are the layers that were trained, each with its shape."""
    family, known = load_family(name), known_keys(name)
    layers = dict(known.denoiser.named_modules())
    native: dict[str, list[nn.Module]] = {}
    for stem, slots in family.exports["comfy"].slots({DENOISER: known.denoiser}).items():
        native[stem.removeprefix("diffusion_model.") + ".weight"] = [layers[slot.module] for slot in slots]
    checkpoint = {
        key: torch.cat([layer.weight for layer in fused])  # type: ignore[misc]
        for key, fused in native.items()
    }
    converted: dict[str, Any] = getattr(single_file_utils, CONVERTERS[name])(checkpoint)
    trained = trained_by_all(family, known.denoiser)
    assert {converted[f"{module}.weight"].shape == layers[module].weight.shape for module in trained} == {
        True
    }
