"""Write and read the factors of an adapter in any layout of ``table``.

What a scale becomes: kohya's layout says it as ``.alpha`` = scale * rank, the others multiply it into a factor. So does
kohya's where a file has no rank to divide by (LoKr of two whole matrices, where every reader takes 1).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.engine.errors import ConfigurationError, EngineError
from training.engine.export.table import ExportTable, Layout, Place
from training.engine.methods.base import Adapter, WeightDelta
from training.engine.methods.changes import Change, Decomposed, Hadamard, Kronecker, LowRank, weight_of

HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
KRONECKER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
SUFFIXES = {
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha", ".dora_scale": "dora_scale",
    ".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_magnitude_vector": "magnitude_vector",
    **{f".{name}": name for name in (*HADAMARD, *KRONECKER)},
}  # fmt: skip
EXACT = (".alpha", ".dora_scale", ".lora_magnitude_vector")
"""Entries that are small and kept in fp32: a length rounded to fp16 is off by more than a short training changes it."""


class VerificationError(EngineError):
    """Report a file that does not do what was trained."""


# -- writing -----------------------------------------------------------------------------------------------------------


def tensors(table: ExportTable, adapter: Adapter, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all tensors of the file, on the CPU and contiguous.

    Raise ValueError if two modules share a name, ConfigurationError for a form that the layout cannot hold.
    """
    deltas = list(adapter.deltas())
    layers = {table.stem(delta.part, delta.module): delta.layer for delta in deltas}
    return tensors_of(table.layout, changes_by_stem(table, deltas), dtype, layers)


def changes_by_stem(table: ExportTable, deltas: Iterable[WeightDelta]) -> dict[str, Change]:
    """Return the change of every entry of a file; raise as ``tensors`` does."""
    return {stem: _joined(stem, members) for stem, members in _by_stem(table, deltas).items()}


def tensors_of(
    layout: Layout, changes: Mapping[str, Change], dtype: torch.dtype, layers: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Return all tensors of a file from its changes by stem; ``layers`` are those of the base model, for DoRA."""
    found: dict[str, Tensor] = {}
    if layout == "kohya":
        changes = _with_one_alpha(changes)
    for stem, change in changes.items():
        entries = _entries(change, layout)
        if isinstance(change, Decomposed):
            entries |= _magnitude(change, layout, layers.get(stem))
        for suffix, tensor in entries.items():
            exact = suffix in EXACT and not _survives(tensor, dtype)
            found[stem + suffix] = tensor.to("cpu", torch.float32 if exact else dtype).contiguous()
    return dict(sorted(found.items()))


def _with_one_alpha(changes: Mapping[str, Change]) -> dict[str, Change]:
    """Give all low-rank entries the commonest alpha but 0, and multiply the rest of their scale into ``up``.

    diffusers loses the alphas of single attention layers: its pattern for them names no layer (0.42, get_peft_kwargs).
    """
    alphas = Counter(each.scale * each.rank for each in changes.values() if isinstance(each, LowRank))
    if len(alphas) < 2:
        return dict(changes)
    alpha = max((each for each in alphas if each), key=lambda each: alphas[each])
    return {
        stem: dataclasses.replace(
            each, up=each.up.float() * (each.scale * each.rank / alpha), scale=alpha / each.rank
        ) if isinstance(each, LowRank) else each
        for stem, each in changes.items()
    }  # fmt: skip


def require_writable(table: ExportTable, adapter: Adapter) -> None:
    """Raise ConfigurationError before any training if the file could not be written in this layout."""
    for stem, members in _by_stem(table, adapter.deltas()).items():
        if len(members) > 1:
            _require_joinable(stem, [delta.change for _, delta in members])


def _by_stem(table: ExportTable, deltas: Iterable[WeightDelta]) -> dict[str, list[tuple[Place, WeightDelta]]]:
    groups: dict[str, list[tuple[Place, WeightDelta]]] = {}
    for delta in deltas:
        place = table.required_place(delta.part, delta.module)
        groups.setdefault(table.stem(delta.part, delta.module), []).append((place, delta))
    return groups


def _survives(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.numel() == 1 and float(tensor) == float(tensor.to(dtype))


def _joined(stem: str, members: list[tuple[Place, WeightDelta]]) -> Change:
    """Return the one change of an entry; of fused layers down stacked and up block-diagonal."""
    members.sort(key=lambda member: member[0].index)
    changes = [delta.change for _, delta in members]
    if [place.index for place, _ in members] != list(range(members[0][0].count)):
        raise ValueError(f"{stem} holds {len(members)} modules: some are missing or share the name")
    if len(changes) == 1:
        return changes[0]
    low = _require_joinable(stem, changes)
    if all(each.down.shape == low[0].down.shape and torch.equal(each.down, low[0].down) for each in low):
        # They were one layer's once: as such they take a third of the room.
        return LowRank(low[0].down, torch.cat([each.scale * each.up.float() for each in low]), scale=1.0)
    up = torch.block_diag(*(each.scale * each.up.float() for each in low))
    return LowRank(torch.cat([each.down for each in low]), up, scale=1.0)


def _require_joinable(stem: str, changes: list[Change]) -> list[LowRank]:
    low = [each for each in changes if type(each) is LowRank]
    if len(low) != len(changes):
        raise ConfigurationError(
            "layout_unsupported",
            f"{stem}: files of this base model fuse several layers into one, which only LoRA can be",
            hint="Train with the method 'lora' or 'rslora', or choose another layout of the file.",
            patch={"/method/type": "lora"},
        )
    return low


def _entries(change: Change, layout: Layout) -> dict[str, Tensor]:
    """Return the tensors of one entry by suffix."""
    kohya = layout == "kohya"
    found: dict[str, Tensor]
    rank: int | None
    if isinstance(change, LowRank):
        rank, baked = change.rank, ".lora_up.weight" if kohya else ".lora_B.weight"
        found = {".lora_down.weight" if kohya else ".lora_A.weight": change.down, baked: change.up}
    elif isinstance(change, Hadamard):
        rank, baked = change.rank, ".hada_w2_b"
        factors = (change.w1_a, change.w1_b, change.w2_a, change.w2_b)
        found = {f".{name}": tensor for name, tensor in zip(HADAMARD, factors, strict=True)}
    elif isinstance(change, Kronecker):
        rank, first = change.rank, _named("lokr_w1", change.w1)
        found, baked = {**first, **_named("lokr_w2", change.w2)}, next(iter(first))
    else:
        raise TypeError(f"{type(change).__name__} has no form in a file")
    if kohya and rank is not None:
        return {**found, ".alpha": torch.tensor(change.scale * rank)}
    found[baked] = found[baked].float() * change.scale
    return {**found, ".alpha": torch.tensor(1.0)} if kohya else found


def _magnitude(change: Decomposed, layout: Layout, layer: nn.Module | None) -> dict[str, Tensor]:
    """Return the lengths of one entry by suffix.

    Where peft's names are read, diffusers takes the vector, which for it is always of rows, and leaves the other out.
    ComfyUI and Forge take the other, and divide what has one number a row by the lengths of the *old* weight
    (comfy/weight_adapter/base.py, ``weight_decompose``), so that is what it must hold.
    """
    if layout != "peft":
        return {".dora_scale": change.magnitude}
    if layer is None:
        raise ValueError("the lengths of a DoRA in peft's layout cannot be written without the weight")
    weight = weight_of(layer)
    lengths = change.magnitude
    vector = lengths.flatten() if lengths.ndim == 2 else lengths.transpose(0, 1)
    ratio = change.lengths(weight) / change.lengths(change.merged(weight))
    return {".lora_magnitude_vector": vector, ".dora_scale": lengths * ratio}


def _named(name: str, factors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    if len(factors) == 1:
        return {f".{name}": factors[0]}
    return {f".{name}_{letter}": factor for letter, factor in zip("ab", factors, strict=True)}


# -- reading -----------------------------------------------------------------------------------------------------------


def read_factors(path: Path) -> dict[str, Change]:
    """Read a file of any layout by stem; raise VerificationError for anything odd in it."""
    try:
        content = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VerificationError("export_unreadable", f"{path.name} cannot be opened again") from error
    found: dict[str, Change] = {}
    for stem, group in _grouped(path.name, content).items():
        change = next((made for make in (_low_rank, _hadamard, _kronecker) if (made := make(group))), None)
        if change is None:
            raise VerificationError("export_key", f"{path.name}: {stem!r} is not whole")
        alpha = group.get("alpha")
        if not change.fits_together or (alpha is not None and alpha.numel() != 1):
            shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(group.items()))
            raise VerificationError(
                "export_shape", f"{path.name}: the factors of {stem!r} do not fit each other: {shapes}"
            )
        rank = change.rank
        if alpha is None and stem.startswith("lora_"):
            raise VerificationError("export_key", f"{path.name}: {stem!r} has no alpha")
        if alpha is not None and rank is not None:
            change = dataclasses.replace(change, scale=float(alpha) / rank)
        found[stem] = change
    if all(change.is_empty for change in found.values()):
        raise VerificationError(
            "export_empty", f"{path.name} changes nothing: every product is zero",
            hint="Train for at least one step with a learning rate above zero.",
        )  # fmt: skip
    return found


def _low_rank(group: Mapping[str, Tensor]) -> LowRank | None:
    down, up = group.get("down"), group.get("up")
    if down is None or up is None or group.keys() - {"down", "up", "alpha", "dora_scale", "magnitude_vector"}:
        return None
    lengths = group.get("dora_scale")
    if (vector := group.get("magnitude_vector")) is not None:
        lengths = vector.reshape(-1, *[1] * (down.ndim - 1))
    return LowRank(down, up, scale=1.0) if lengths is None else Decomposed(down, up, lengths, scale=1.0)


def _hadamard(group: Mapping[str, Tensor]) -> Hadamard | None:
    if group.keys() - {"alpha"} != set(HADAMARD):
        return None
    return Hadamard(*(group[name] for name in HADAMARD), scale=1.0)


def _kronecker(group: Mapping[str, Tensor]) -> Kronecker | None:
    first, second = (_whole_or_pair(group, name) for name in ("lokr_w1", "lokr_w2"))
    if first is None or second is None or group.keys() - {"alpha", *KRONECKER}:
        return None
    return Kronecker(first, second, scale=1.0)


def _whole_or_pair(group: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...] | None:
    pair = [group[key] for key in (f"{name}_a", f"{name}_b") if key in group]
    if (whole := group.get(name)) is not None:
        return None if pair else (whole,)
    return tuple(pair) if len(pair) == 2 else None


def _grouped(name: str, content: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in content.items():
        suffix = next((each for each in SUFFIXES if key.endswith(each)), None)
        if suffix is None:
            raise VerificationError("export_key", f"{name}: no program reads {key!r}")
        if not torch.isfinite(tensor).all():
            raise VerificationError("export_not_finite", f"{name}: {key!r} holds values that are not finite")
        groups.setdefault(key.removesuffix(suffix), {})[SUFFIXES[suffix]] = tensor
    return groups
