"""How a file names the weights of an adapter: one table for each family and layout, used to write and to read.

- ``kohya``: ``lora_unet_<path with _>.lora_down.weight``, ``.lora_up.weight`` and the true ``.alpha`` (sd-scripts
  networks/lora.py).
- ``peft``: ``transformer.<path>.lora_A.weight`` and ``.lora_B.weight`` with the scale in B: an ``.alpha`` beside them
  is refused or ignored by most loaders of diffusers, and a missing one means 1 to ComfyUI.
- ``comfy``: the same under the names of the original model, where ComfyUI knows no others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from torch import nn

from training.engine.errors import ConfigurationError

Layout = Literal["kohya", "peft", "comfy"]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Say where a module's weights go: a path, and which of several modules fused into one it is."""

    path: str
    index: int = 0
    count: int = 1


def same_path(part: str, module: str) -> Place:
    """Keep a module's path."""
    return Place(module)


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """Be the place of one module of a live model in a file; ``rows`` are its rows of a fused up factor."""

    part: str
    module: str
    rows: slice | None = None


@dataclasses.dataclass(frozen=True)
class ExportTable:
    """Name the modules of each part in one layout.

    ``prefixes`` gives e.g. {"denoiser": "lora_unet"}; a part without one does not leave. ``place`` turns our module
    path into the path that the reading programs know, before dots become underscores; None where they know none.
    """

    layout: Layout
    prefixes: Mapping[str, str]
    place: Callable[[str, str], Place | None] = same_path
    dtype: Literal["fp16", "bf16"] = "fp16"
    """Number format that the reading programs expect."""

    def stem(self, part: str, module: str) -> str:
        """Return the key of a module without suffix, e.g. ``lora_unet_mid_block_attentions_0_proj_in``."""
        return self._stem(part, self.required_place(part, module).path)

    def required_place(self, part: str, module: str) -> Place:
        """Return where a module goes; raise ConfigurationError if files of this layout have no place for it."""
        place = self.place(part, module) if part in self.prefixes else None
        if place is None:
            raise ConfigurationError(
                "layout_unsupported", f"files of the layout {self.layout!r} have no name for {part} {module!r}",
                hint="Choose another layout, or leave this module out of the training.",
            )  # fmt: skip
        return place

    def _stem(self, part: str, path: str) -> str:
        if self.layout == "kohya":
            return f"{self.prefixes[part]}_{path.replace('.', '_')}"
        return f"{self.prefixes[part]}.{path}"

    def slots(self, models: Mapping[str, nn.Module]) -> dict[str, list[Slot]]:
        """Map every stem that a reading program knows to the layers of live models it stands for, in order.

        Raise ValueError if two layers would have the same name.
        """
        found: dict[str, list[tuple[int, int, str, str, int]]] = {}
        for part, name, module in self._layers(models):
            place = self.place(part, name)
            if place is None:
                continue
            entry = (place.index, place.count, part, name, _rows_of(module))
            found.setdefault(self._stem(part, place.path), []).append(entry)
        return {stem: _fused(stem, sorted(entries)) for stem, entries in found.items()}

    def _layers(self, models: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, nn.Module]]:
        for part, model in models.items():
            if part not in self.prefixes:
                continue
            for name, module in model.named_modules():
                if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and ".lora_" not in name:
                    yield part, name.removesuffix(".base_layer"), module


def chosen_table(exports: Mapping[str, ExportTable], wanted: str, title: str) -> ExportTable:
    """Return the layout of a recipe's files: the wanted one of a family's, or its usual one for "auto".

    Raise ConfigurationError for a layout that the family, called ``title``, does not have.
    """
    if wanted == "auto":
        return next(iter(exports.values()))
    if wanted not in exports:
        raise ConfigurationError(
            "layout_unsupported", f"{title} has no files of the layout {wanted!r}",
            hint=f"Use one of: {', '.join(['auto', *exports])}.", patch={"/output/layout": "auto"},
        )  # fmt: skip
    return exports[wanted]


def _rows_of(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features  # quantised weights are packed and have no rows of their own
    rows: int = module.weight.shape[0]  # type: ignore[index, assignment]
    return rows


def _fused(stem: str, entries: list[tuple[int, int, str, str, int]]) -> list[Slot]:
    """Give each of the layers fused under one stem its rows, one after another."""
    if [index for index, *_ in entries] != list(range(len(entries))):
        raise ValueError(f"two modules would be called {stem}")
    if entries[0][1] == 1:
        return [Slot(entries[0][2], entries[0][3])]
    slots, start = [], 0
    for _, _, part, name, rows in entries:
        slots.append(Slot(part, name, slice(start, start + rows)))
        start += rows
    return slots
