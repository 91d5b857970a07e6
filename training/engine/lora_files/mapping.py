"""Find out which layers of a model a file's entries are for. Strict: what is not understood is an error."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from training.engine.errors import ConfigurationError, DataError
from training.engine.export.table import ExportTable, Layout, Slot
from training.engine.families.base import ModelFamily
from training.engine.lora_files import architecture, reading
from training.engine.lora_files.architecture import Architecture
from training.engine.lora_files.reading import LoraFile
from training.engine.methods.base import WeightDelta
from training.engine.methods.changes import Change, LowRank, shaped, weight_of
from training.engine.registry import load_family


@dataclasses.dataclass(frozen=True)
class Mapped:
    """Be a file's changes by layer; ``silent`` are layers of a fused entry that it does not change."""

    model: Architecture
    table: ExportTable
    deltas: list[WeightDelta]
    silent: int


def tables_of(family: ModelFamily, layout: Layout) -> list[ExportTable]:
    """Return the tables by which the family's files of a layout are named, the one that is written first."""
    return [table for table in family.tables if table.layout == layout]


def family_of(file: LoraFile, wanted: str | None) -> ModelFamily:
    """Return the family of a file: the wanted one, or the one it says, or that of its names."""
    name = wanted or reading.family_by_metadata(file.metadata) or reading.family_by_names(file.changes)
    if name is None:
        raise ConfigurationError(
            "family_unknown", f"{file.path.name} does not say what base model it is for, nor do its names",
            hint="Add --family NAME; `lora-train families` lists them.",
        )  # fmt: skip
    return load_family(name)


def mapped(file: LoraFile, *, family: str | None = None, base: Path | None = None) -> Mapped:
    """Return which layer each entry changes.

    Raise DataError naming the first entry that is for no layer or has another shape than the layer.
    """
    models = [architecture.of_base(base, family)] if base is not None else None
    chosen = models[0].family if models else family_of(file, family)
    tables = tables_of(chosen, file.layout)
    if not tables:
        raise ConfigurationError(
            "layout_unsupported",
            f"{file.path.name} has names of the layout {file.layout!r}, in which {chosen.title} has no files",
            hint=f"It is for another base model than one of the family {chosen.name}.",
        )
    failures: list[tuple[int, DataError]] = []
    for table in tables:
        for model in models or architecture.candidates(chosen, table, file):
            slots = table.slots(model.parts)
            problems = list(_problems(file, model, slots))
            if not problems:
                return _split(file, table, model, slots)
            failures.append((len(problems), problems[0]))
    if not failures:
        raise ConfigurationError(
            "base_model_needed", f"the names of {file.path.name} do not tell the layers they are for",
            hint="Give its base model with --base FOLDER (its configs are enough), or another --family.",
        )  # fmt: skip
    raise min(failures, key=lambda failure: failure[0])[1]


def _problems(file: LoraFile, model: Architecture, slots: Mapping[str, list[Slot]]) -> Iterable[DataError]:
    family = model.family
    hint = (
        f"Give its base model with --base FOLDER, or another family than {family.name} with --family."
        if model.folder is None else "Give the base model that it was trained on."
    )  # fmt: skip
    for stem, change in file.changes.items():
        if stem not in slots:
            yield DataError(
                "lora_key", f"{file.path.name}: {stem!r} is no layer of {family.title}, or has another name there",
                hint=hint,
            )  # fmt: skip
            continue
        layers = [weight_of(model.layer(slot.part, slot.module)) for slot in slots[stem]]
        wanted = (sum(layer.shape[0] for layer in layers), math.prod(layers[0].shape[1:]))
        if change.size != wanted:
            yield DataError(
                "lora_shape", f"{file.path.name}: {stem!r} is for a layer of {change.size}, "
                f"and that of {family.title} is {wanted}", hint=hint,
            )  # fmt: skip


def _split(
    file: LoraFile, table: ExportTable, model: Architecture, slots: Mapping[str, list[Slot]]
) -> Mapped:
    deltas, silent = [], 0
    for stem, change in file.changes.items():
        for slot in slots[stem]:
            layer = model.layer(slot.part, slot.module)
            own = change if slot.rows is None else _alone(change.rows(slot.rows))
            if own is None:
                silent += 1
                continue
            deltas.append(WeightDelta(slot.part, slot.module, layer, shaped(own, layer)))
    return Mapped(model, table, deltas, silent)


def inner_shapes(
    file: LoraFile, *, family: str | None = None, base: Path | None = None
) -> dict[str, torch.Size]:
    """Return the shape (in,) or (in, kh, kw) of each entry's layer.

    Files of LoRA say it themselves; for others, whose convolutions are flat, raise as ``mapped`` does.
    """
    shapes = {
        stem: change.down.shape[1:] for stem, change in file.changes.items() if isinstance(change, LowRank)
    }  # fmt: skip
    if len(shapes) < len(file.changes):
        found = mapped(file, family=family, base=base)
        for delta in found.deltas:
            shapes[found.table.stem(delta.part, delta.module)] = weight_of(delta.layer).shape[1:]
    return shapes


def _alone(change: Change) -> Change | None:
    """Return the change of one of several fused layers without the directions that only the others use."""
    if type(change) is not LowRank:
        return change
    used = change.up.flatten(1).any(0)
    if not bool(used.any()):
        return None
    # A choice by mask copies: several layers must not share the memory of a factor.
    return dataclasses.replace(change, up=change.up[:, used], down=change.down[used])


def gaps(model: Architecture, deltas: Iterable[WeightDelta], table: ExportTable) -> list[WeightDelta]:
    """Return changes of rank 0 for layers that are fused with changed ones but not changed themselves.

    Raise ConfigurationError where the file alone does not tell their sizes.
    """
    members: dict[str, set[tuple[str, str]]] = defaultdict(set)
    counts: dict[str, int] = {}
    for delta in deltas:
        stem = table.stem(delta.part, delta.module)
        members[stem].add((delta.part, delta.module))
        counts[stem] = table.required_place(delta.part, delta.module).count
    short = [stem for stem in members if len(members[stem]) < counts[stem]]
    if not short:
        return []
    if not model.is_whole:
        raise ConfigurationError(
            "base_model_needed", f"{short[0]!r} fuses layers of which the file has only some",
            hint="Give its base model with --base FOLDER (its configs are enough).",
        )  # fmt: skip
    slots = table.slots(model.parts)
    missing = [
        slot for stem in short for slot in slots[stem] if (slot.part, slot.module) not in members[stem]
    ]
    return [_nothing(model, slot) for slot in missing]


def _nothing(model: Architecture, slot: Slot) -> WeightDelta:
    layer = model.layer(slot.part, slot.module)
    shape = weight_of(layer).shape
    ones = [1] * (len(shape) - 2)
    change = LowRank(torch.zeros(0, *shape[1:]), torch.zeros(shape[0], 0, *ones), scale=1.0)
    return WeightDelta(slot.part, slot.module, layer, change)
