"""Find the layers of a live model that a LoRA file is for, whatever its layout, and put it on them for a while."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from torch import nn

from training.engine.errors import ConfigurationError
from training.engine.export.table import ExportTable, Slot
from training.engine.export.verify import hooked
from training.engine.methods.changes import Change, shape_of


def put_on(
    stack: ExitStack, tables: Iterable[ExportTable], models: Mapping[str, nn.Module], factors: Mapping[str, Change]
) -> set[str]:  # fmt: skip
    """Hook a file's factors to the layers they are for until ``stack`` is closed; return the stems that fit none.

    Raise ConfigurationError for a layer of another size: models of one family have the same names.
    """
    unused = set(factors)
    for table in tables:
        if not unused:
            break
        for part, model in models.items():
            slots = table.slots({part: model})
            found = {stem: factors[stem] for stem in unused & slots.keys()}
            _require_sizes(model, slots, found)
            stack.enter_context(hooked(model, slots, found))
            unused -= found.keys()
    return unused


def _require_sizes(model: nn.Module, slots: Mapping[str, list[Slot]], factors: Mapping[str, Change]) -> None:
    for stem, change in factors.items():
        layers = [model.get_submodule(slot.module) for slot in slots[stem]]
        shapes = [shape_of(getattr(layer, "base_layer", layer)) for layer in layers]
        wanted = (sum(shape[0] for shape in shapes), math.prod(shapes[0][1:]))
        if change.size != wanted:
            raise ConfigurationError(
                "lora_of_another_base", f"{stem!r} of the LoRA is for a layer of {change.size}, this one is {wanted}",
                hint="Choose a LoRA that was trained on this base model, or on one of its size.",
            )  # fmt: skip
