"""Find the layers of a live model that a LoRA file is for, whatever its layout, and put it on them for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from torch import nn

from training.engine.export.table import ExportTable
from training.engine.export.verify import hooked
from training.engine.methods.changes import Change


def put_on(
    stack: ExitStack, tables: Iterable[ExportTable], models: Mapping[str, nn.Module], factors: Mapping[str, Change]
) -> set[str]:  # fmt: skip
    """Hook a file's factors to the layers they are for until ``stack`` is closed; return the stems that fit none."""
    unused = set(factors)
    for table in tables:
        if not unused:
            break
        for part, model in models.items():
            slots = table.slots({part: model})
            found = {stem: factors[stem] for stem in unused & slots.keys()}
            stack.enter_context(hooked(model, slots, found))
            unused -= found.keys()
    return unused
