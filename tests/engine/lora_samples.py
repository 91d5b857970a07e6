"""Random LoRA files of tiny models, and what they do to a model's output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.engine.export.factors import changes_by_stem, read_factors, tensors_of
from training.engine.export.table import ExportTable
from training.engine.export.verify import hooked
from training.engine.export.weights_file import write
from training.engine.families.base import ModelFamily, Parts
from training.engine.methods.base import WeightDelta
from training.engine.methods.changes import Change, Decomposed, Hadamard, Kronecker, LowRank
from training.engine.methods.targets import matching_layers

from .conformance import inputs_of


def layers_of(family: ModelFamily, parts: Parts, table: ExportTable) -> list[tuple[str, str, nn.Module]]:
    """List all layers that a training can adapt and that the layout names."""
    found = []
    for part in table.prefixes:
        model = parts.adaptable[part]
        names = [name for name, each in model.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
        for name in matching_layers(names, family.presets["all"].get(part, ())):
            found.append((part, name, model.get_submodule(name)))
    return found


def random_change(layer: nn.Module, number: int, *, rank: int, alpha: float, method: str = "lora") -> Change:
    """Return factors that change a layer by about as much as it is."""
    rows, *inner = layer.weight.shape  # type: ignore[union-attr, misc]
    columns, ones = math.prod(inner), [1] * (len(inner) - 1)
    generator = torch.Generator().manual_seed(number)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / 8

    if method == "lora":
        return LowRank(noise(rank, *inner), noise(rows, rank, *ones), scale=alpha / rank)
    if method == "dora":
        magnitude = 1 + noise(1, inner[0], *ones).abs()
        return Decomposed(noise(rank, *inner), noise(rows, rank, *ones), magnitude, scale=alpha / rank)
    if method == "loha":
        pairs = (noise(rows, rank), noise(rank, columns), noise(rows, rank), noise(rank, columns))
        return Hadamard(*pairs, scale=alpha / rank)
    return Kronecker((noise(2, 2),), (noise(rows // 2, rank), noise(rank, columns // 2)), scale=alpha / rank)


def write_sample(
    path: Path, family: ModelFamily, table: ExportTable, *, rank: int = 3, alpha: float = 3.0, seed: int = 0,
    method: str = "lora", only: str = "", dtype: torch.dtype = torch.float32, metadata: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write a file that changes every layer whose name has ``only`` in it."""
    parts = family.tiny()
    deltas = [
        WeightDelta(part, name, layer, random_change(layer, 1000 * seed + n, rank=rank, alpha=alpha, method=method))
        for n, (part, name, layer) in enumerate(layers_of(family, parts, table)) if only in name
    ]  # fmt: skip
    about = family.metadata(parts) if metadata is None else metadata
    write(path, tensors_of(table.layout, changes_by_stem(table, deltas), dtype, {}), about)
    return path


@torch.no_grad()
def output_of(family: ModelFamily, parts: Parts, *files: tuple[Path, ExportTable, float]) -> Tensor:
    """Return what a denoiser predicts with files put on it by hooks, each so many times as strong."""
    from contextlib import ExitStack

    noised, t, rows = inputs_of(family, parts)
    with ExitStack() as stack:
        for path, table, strength in files:
            slots = table.slots({"denoiser": parts.denoiser})
            factors = {stem: change.times(strength) for stem, change in read_factors(path).items()}
            stack.enter_context(hooked(parts.denoiser, slots, factors))
        found: Tensor = family.forward(parts, noised, t, rows)
    return found


def assert_same_effect(one: Tensor, two: Tensor, base: Tensor) -> None:
    """Compare what two files change of a prediction, to 1e-5.

    The predictions themselves are rounded by up to 5e-7: of an effect under a tenth of them that would be more.
    """
    effect = float((one - base).norm())
    assert effect > 0.1 * float(base.norm()), "too weak to compare"
    assert float((one - two).norm()) < 1e-5 * effect


def table_of(family: ModelFamily, layout: str) -> ExportTable:
    return next(table for table in family.tables if table.layout == layout)
