"""Make one LoRA file of several."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training.engine.errors import ConfigurationError
from training.engine.export.table import Slot
from training.engine.lora_files import reading, svd, writing
from training.engine.lora_files.base_weights import ComponentWeights
from training.engine.lora_files.mapping import inner_shapes, mapped
from training.engine.lora_files.reading import LoraFile
from training.engine.lora_files.resize import require_limits
from training.engine.methods.changes import Change, Decomposed, LowRank


@dataclasses.dataclass(frozen=True)
class Merged:
    """Say what was written: its sha256, the rank and cut of each module, and how many modules are in only one file.

    ``cuts`` is empty where the factors were put side by side, which loses nothing.
    """

    sha256: str
    ranks: Mapping[str, int]
    cuts: Mapping[str, svd.Cut]
    alone: int


def merge(
    sources: Sequence[tuple[Path, float]], out: Path, *, rank: int | None = None, base: Path | None = None,
    dtype: str | None = None, force: bool = False,
) -> Merged:  # fmt: skip
    """Write the sum of files, each so many times as strong.

    Without a rank LoRAs are put side by side, which is exact and adds their ranks up. With one the sum of each module
    is cut to it; LoHa, LoKr and DoRA need that, DoRA its base model as well. Raise ConfigurationError for files that
    do not fit together.
    """
    if rank is not None:
        require_limits(rank, None)
    writing.require_free(out, force)
    files = [reading.read(path) for path, _ in sources]
    _require_alike(files)
    strengths = [strength for _, strength in sources]
    groups: dict[str, list[Change]] = {}
    shapes: dict[str, torch.Size] = {}
    for file, strength in zip(files, strengths, strict=True):
        for stem, change in file.changes.items():
            groups.setdefault(stem, []).append(change.times(strength))
        shapes |= inner_shapes(file, base=base) if rank is not None else {}
    weights = _weights(files, base) if rank is not None else {}
    cuts: dict[str, svd.Cut] = {}
    changes: dict[str, Change] = {}
    for stem, members in groups.items():
        _require_same_size(stem, members)
        if rank is None:
            changes[stem] = side_by_side(stem, members)
        else:
            weight = weights[stem]() if stem in weights else None
            cuts[stem] = _summed(members, weight, rank).cut(rank, None)
            changes[stem] = cuts[stem].change(shapes[stem])
    about = writing.combined(files, f"merge{'' if rank is None else f' to rank {rank}'}", strengths)
    digest = writing.save(
        out,
        files[0].layout,
        changes,
        writing.dtype_of(dtype, files[0]),
        {**about, **writing.network(changes)},
    )
    ranks = {stem: change.rank or 0 for stem, change in changes.items()}
    return Merged(digest, ranks, cuts, sum(len(members) < len(files) for members in groups.values()))


def side_by_side(stem: str, changes: Sequence[Change]) -> LowRank:
    """Return one low-rank change that is the sum of others: ``down`` stacked, ``up`` side by side, scales in ``up``.

    Raise ConfigurationError for other forms.
    """
    low = [change for change in changes if type(change) is LowRank]
    if len(low) != len(changes):
        odd = next(change.title for change in changes if type(change) is not LowRank)
        raise ConfigurationError(
            "merge_inexact", f"{stem!r} is a {odd}, which cannot be put beside others without loss",
            hint="Add --rank R: the sum is then cut to that rank.",
        )  # fmt: skip
    inner = max((change.down.shape[1:] for change in low), key=len)
    ones = [1] * (len(inner) - 1)
    down = torch.cat([change.down.float().reshape(change.rank, *inner) for change in low])
    up = torch.cat([change.scale * change.up.float().flatten(1) for change in low], 1)
    return LowRank(down, up.reshape(*up.shape, *ones), scale=1.0)


def _summed(changes: Sequence[Change], weight: Tensor | None, rank: int) -> svd.Decomposition:
    if all(type(change) is LowRank for change in changes):
        return svd.decompose(side_by_side("", changes))
    # A change that depends on no weight does not look at this one.
    given = torch.empty(0) if weight is None else weight
    return svd.of_matrix(torch.stack([change.change_of(given) for change in changes]).sum(0), rank)


def _weights(files: Sequence[LoraFile], base: Path | None) -> dict[str, Callable[[], Tensor]]:
    """Return how to read the base model's weight of each entry that is a DoRA in one of the files."""
    found: dict[str, Callable[[], Tensor]] = {}
    for file in files:
        wanted = [stem for stem, change in file.changes.items() if isinstance(change, Decomposed)]
        if wanted:
            table = mapped(file, base=base)
            slots, weights = table.table.slots(table.model.parts), table.model.weights
            found |= {stem: partial(_weight, weights, slots[stem]) for stem in wanted}
    return found


def _weight(weights: Mapping[str, ComponentWeights], slots: Sequence[Slot]) -> Tensor:
    return torch.cat([weights[slot.part].weight(slot.module).float() for slot in slots])


def _require_alike(files: Sequence[LoraFile]) -> None:
    first = files[0]
    for other in files[1:]:
        families = [
            reading.family_by_metadata(f.metadata) or reading.family_by_names(f.changes)
            for f in (first, other)
        ]
        if None not in families and families[0] != families[1]:
            raise ConfigurationError(
                "merge_families", f"{first.path.name} is for {families[0]}, {other.path.name} for {families[1]}",
                hint="Only LoRAs of the same architecture can be added up.",
            )  # fmt: skip
        if _naming(first) != _naming(other):
            raise ConfigurationError(
                "merge_layouts", f"{first.path.name} and {other.path.name} name their modules differently",
                hint=f"Convert one first: lora-train convert FILE --to {first.layout} -o OUT.",
            )  # fmt: skip


def _naming(file: LoraFile) -> tuple[str, bool]:
    """Return the layout, and whether an SDXL file has the original model's block names."""
    return file.layout, any(
        re.match(r"lora_unet_(input|output)_blocks_|lora_unet_middle_", s) for s in file.changes
    )


def _require_same_size(stem: str, members: Sequence[Change]) -> None:
    sizes = {change.size for change in members}
    if len(sizes) > 1:
        raise ConfigurationError(
            "merge_sizes", f"{stem!r} is for layers of different sizes: {', '.join(map(str, sorted(sizes)))}",
            hint="Only LoRAs of the same architecture can be added up.",
        )  # fmt: skip
