"""Write and read the factors of an adapter in any layout of ``table``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.engine.errors import EngineError
from training.engine.export.table import ExportTable, Place
from training.engine.methods.base import Adapter, WeightDelta

SUFFIXES = {
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha",
    ".lora_A.weight": "down", ".lora_B.weight": "up",
}  # fmt: skip


class VerificationError(EngineError):
    """Report a file that does not do what was trained."""


@dataclasses.dataclass(frozen=True)
class LoraFactors:
    """Be one entry as read from a file."""

    down: Tensor
    up: Tensor
    scale: float

    def product(self) -> Tensor:
        """Return the change of weight, flattened to (out, in * kh * kw)."""
        return self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))

    def part_of(self, rows: slice | None) -> LoraFactors:
        """Return the factors of one of the layers that were fused into this entry."""
        return self if rows is None else dataclasses.replace(self, up=self.up[rows])


def tensors(table: ExportTable, adapter: Adapter, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all tensors of the file, on the CPU and contiguous; raise ValueError if two modules share a name."""
    groups: dict[str, list[tuple[Place, WeightDelta]]] = {}
    for delta in adapter.deltas():
        place = table.place(delta.part, delta.module)
        groups.setdefault(table.stem(delta.part, delta.module), []).append((place, delta))
    found: dict[str, Tensor] = {}
    for stem, members in groups.items():
        down, up, scale = _joined(stem, members)
        if table.layout == "kohya":
            # A reader computes alpha / r; with the true scale s that makes alpha = s * r, also for other scalings.
            alpha = scale * down.shape[0]
            found[f"{stem}.lora_down.weight"] = down.to("cpu", dtype).contiguous()
            found[f"{stem}.lora_up.weight"] = up.to("cpu", dtype).contiguous()
            exact = alpha == float(torch.tensor(alpha, dtype=dtype))
            found[f"{stem}.alpha"] = torch.tensor(alpha, dtype=dtype if exact else torch.float32)
        else:
            found[f"{stem}.lora_A.weight"] = down.to("cpu", dtype).contiguous()
            found[f"{stem}.lora_B.weight"] = (up.float() * scale).to("cpu", dtype).contiguous()
    return dict(sorted(found.items()))


def _joined(stem: str, members: list[tuple[Place, WeightDelta]]) -> tuple[Tensor, Tensor, float]:
    """Return down, up and scale of one entry; of fused layers down stacked and up block-diagonal."""
    members.sort(key=lambda member: member[0].index)
    deltas = [delta for _, delta in members]
    if [place.index for place, _ in members] != list(range(members[0][0].count)):
        raise ValueError(f"{stem} holds {len(members)} modules: some are missing or share the name")
    if len(deltas) == 1:
        return deltas[0].down, deltas[0].up, deltas[0].scale
    up = torch.block_diag(*(delta.scale * delta.up.float() for delta in deltas))
    return torch.cat([delta.down for delta in deltas]), up, 1.0


def read_factors(path: Path) -> dict[str, LoraFactors]:
    """Read a file of any layout by stem; raise VerificationError for anything odd in it."""
    try:
        content = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VerificationError("export_unreadable", f"{path.name} cannot be opened again") from error
    found: dict[str, LoraFactors] = {}
    for stem, group in _grouped(path.name, content).items():
        if not {"down", "up"} <= group.keys():
            raise VerificationError("export_key", f"{path.name}: {stem!r} is not whole")
        down, up = group["down"], group["up"]
        if "alpha" not in group and stem.startswith("lora_"):
            raise VerificationError("export_key", f"{path.name}: {stem!r} has no alpha")
        found[stem] = LoraFactors(
            down, up, float(group["alpha"]) / down.shape[0] if "alpha" in group else 1.0
        )
    if not any(bool(f.up.any()) for f in found.values()):
        raise VerificationError(
            "export_empty", f"{path.name} changes nothing: every up factor is zero",
            hint="Train for at least one step with a learning rate above zero.",
        )  # fmt: skip
    return found


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
