"""Rewrite a LoRA file in another layout of its family."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from training.engine.errors import ConfigurationError
from training.engine.export.factors import changes_by_stem
from training.engine.export.table import ExportTable, Layout
from training.engine.lora_files import reading, writing
from training.engine.lora_files.mapping import Mapped, gaps, mapped, tables_of
from training.engine.methods.changes import Decomposed, LowRank

DIFFUSERS_ALONE = "unet"
"""The prefix that no other program reads: it takes plain LoRA only."""


@dataclasses.dataclass(frozen=True)
class Converted:
    """Say what was written: its sha256, entries before and after, and fused layers that the file left alone."""

    sha256: str
    before: int
    after: int
    silent: int


def convert(
    path: Path, to: Layout, out: Path, *, family: str | None = None, base: Path | None = None,
    dtype: str | None = None, force: bool = False,
) -> Converted:  # fmt: skip
    """Write ``out`` in the layout ``to``; nothing is left out.

    Raise DataError for a name or shape that is not understood, ConfigurationError where the family has no such layout
    or the layout cannot hold the method.
    """
    writing.require_free(out, force)
    file = reading.read(path)
    found = mapped(file, family=family, base=base)
    table = _target(found, to)
    deltas = [*found.deltas, *gaps(found.model, found.deltas, table)]
    changes = changes_by_stem(table, deltas)
    about = writing.inherited(file, f"convert from {file.layout} to {to}")
    digest = writing.save(out, to, changes, writing.dtype_of(dtype, file), about)
    return Converted(digest, len(file.changes), len(changes), found.silent)


def _target(found: Mapped, to: Layout) -> ExportTable:
    family = found.model.family
    tables = tables_of(family, to)
    if not tables:
        known = dict.fromkeys(each.layout for each in family.tables)
        raise ConfigurationError(
            "layout_unsupported", f"{family.title} has no files of the layout {to!r}",
            hint=f"Use one of: {', '.join(known)}.",
        )  # fmt: skip
    table = tables[0]
    for delta in found.deltas:
        by_row = isinstance(delta.change, Decomposed) and "peft" in (to, found.table.layout)
        alone = table.prefixes.get(delta.part) == DIFFUSERS_ALONE and type(delta.change) is not LowRank
        if by_row or alone:
            raise ConfigurationError(
                "layout_unsupported",
                f"{delta.module!r} is a {delta.change.title}, which the layout {to!r} holds otherwise or not",
                hint="Make a plain LoRA of it first: lora-train merge FILE --rank R --base FOLDER -o OUT.",
            )  # fmt: skip
    return table
