"""Make a LoRA file of the difference of two base models."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.engine import ENGINE_VERSION
from training.engine.diffusion import process_of
from training.engine.errors import ConfigurationError, DataError
from training.engine.export.factors import VerificationError, changes_by_stem, read_factors
from training.engine.export.table import ExportTable, chosen_table
from training.engine.export.verify import TOLERANCE
from training.engine.export.weights_file import DTYPES
from training.engine.families import folder as folders
from training.engine.families.base import DENOISER, Parts
from training.engine.lora_files import architecture, svd, writing
from training.engine.lora_files.architecture import Architecture
from training.engine.lora_files.base_weights import ComponentWeights
from training.engine.lora_files.mapping import gaps
from training.engine.lora_files.resize import require_limits
from training.engine.methods.base import WeightDelta
from training.engine.methods.targets import matching_layers

ADAPTED = (nn.Linear, nn.Conv2d)


@dataclasses.dataclass(frozen=True)
class Extracted:
    """Say what was written: its sha256, the cut of each module, and the share of its difference that is missing.

    ``left_out`` maps tensors that differ too but that a LoRA cannot hold to the norm of their difference.
    """

    sha256: str
    cuts: Mapping[tuple[str, str], svd.Cut]
    left_out: Mapping[str, float]

    @property
    def kept(self) -> float:
        """Return the share of the norm of all adapted modules together."""
        return svd.share(self.cuts.values())


def extract(
    base: Path, tuned: Path, out: Path, *, rank: int, family: str | None = None, layout: str = "auto",
    dtype: str = "fp16", force: bool = False,
) -> Extracted:  # fmt: skip
    """Write the difference of two models of one architecture, module by module cut to a rank, and apply it as proof.

    No more than one layer of each model is in memory at a time. Raise DataError for models that do not fit each
    other, or that do not differ.
    """
    require_limits(rank, None)
    writing.require_free(out, force)
    one, other = architecture.of_base(base, family), architecture.of_base(tuned, family)
    one.require_one_denoiser()
    if one.family.name != other.family.name:
        raise ConfigurationError(
            "wrong_family", f"{base} is of {one.family.title}, {tuned} of {other.family.title}",
            hint="Only models of the same architecture have a difference.",
        )  # fmt: skip
    table = chosen_table(one.family.exports, layout, one.family.title)
    cuts: dict[tuple[str, str], svd.Cut] = {}
    deltas = []
    for part, module in _adaptable(one, table):
        difference = _difference(one.weights[part], other.weights[part], module)
        if not bool(difference.any()):
            continue
        cut = svd.of_matrix(difference.flatten(1), rank).cut(rank, None)
        cuts[part, module] = cut
        deltas.append(WeightDelta(part, module, one.layer(part, module), cut.change(difference.shape[1:])))
    if not deltas:
        raise DataError(
            "models_equal", "the two models do not differ in any layer that a LoRA adapts",
            hint="Give the base model with --base and the one trained from it with --tuned.",
        )  # fmt: skip
    changes = changes_by_stem(table, [*deltas, *gaps(one, deltas, table)])
    about = {**_metadata(base, tuned, one, rank), **writing.network(changes)}
    digest = writing.save(out, table.layout, changes, DTYPES[dtype], about)
    _prove(out, table, one, other, deltas, cuts, DTYPES[dtype])
    return Extracted(digest, cuts, dict(_left_out(one, other, deltas)))


def _adaptable(model: Architecture, table: ExportTable) -> Iterator[tuple[str, str]]:
    for part, endings in model.family.presets["all"].items():
        if part in model.parts and part in table.prefixes:
            layers = [name for name, each in model.parts[part].named_modules() if isinstance(each, ADAPTED)]
            for module in matching_layers(layers, endings):
                yield part, module


def _difference(one: ComponentWeights, other: ComponentWeights, module: str) -> Tensor:
    before, after = one.weight(module).float(), other.weight(module).float()
    if before.shape != after.shape:
        raise DataError(
            "models_differ", f"{module!r} is {tuple(before.shape)} in the one model, {tuple(after.shape)} in the other",
            hint="Only models of the same architecture have a difference.",
        )  # fmt: skip
    difference = after - before
    if not bool(torch.isfinite(difference).all()):
        raise DataError("models_not_finite", f"the weights of {module!r} are not all finite numbers")
    return difference


def _prove(
    out: Path, table: ExportTable, one: Architecture, other: Architecture, deltas: list[WeightDelta],
    cuts: Mapping[tuple[str, str], svd.Cut], dtype: torch.dtype,
) -> None:  # fmt: skip
    """Add the file to the base model's weights: what is missing to the tuned ones must be what the SVD left out."""
    written, slots = read_factors(out), table.slots(one.parts)
    rows = {(slot.part, slot.module): (stem, slot.rows) for stem in written for slot in slots[stem]}
    for delta in deltas:
        stem, own = rows[delta.part, delta.module]
        difference = _difference(one.weights[delta.part], other.weights[delta.part], delta.module).flatten(1)
        missing = float((difference - written[stem].rows(own).product()).norm())
        norm = float(difference.norm())
        kept = cuts[delta.part, delta.module].kept
        expected = norm * math.sqrt(max(0.0, 1 - kept**2))
        if missing > expected + (TOLERANCE[dtype] + 1e-3) * norm + 1e-7 * difference.numel() ** 0.5:
            raise VerificationError(
                "export_differs", f"{out.name}: {stem!r} lacks {missing / norm:.1%} of the difference",
                hint="Write it with --dtype fp32.",
            )  # fmt: skip


def _left_out(
    one: Architecture, other: Architecture, deltas: list[WeightDelta]
) -> Iterator[tuple[str, float]]:
    for part, weights in one.weights.items():
        held = {weights.key(delta.module) for delta in deltas if delta.part == part}
        theirs = other.weights[part]
        for key in weights.names():
            if key in held:
                continue
            if key not in theirs.files:
                raise DataError("models_differ", f"{theirs.folder} has no {key!r}")
            before, after = weights.tensor(key), theirs.tensor(key)
            if before.shape != after.shape or not torch.equal(before, after):
                same = before.shape == after.shape
                yield f"{part}.{key}", float((after.float() - before.float()).norm()) if same else math.inf


def _metadata(base: Path, tuned: Path, model: Architecture, rank: int) -> dict[str, str]:
    scheduler, index = folders.read_scheduler(base), folders.read_index(base)
    components = {model.family.denoiser: model.parts[DENOISER]}
    parts = Parts(
        components,
        model.family.denoiser,
        (),
        scheduler,
        process_of(scheduler),
        base,
        folders.settings_of(index),
    )
    told = {
        "operation": f"extract to rank {rank}", "engine_version": ENGINE_VERSION,
        "sources": [{"base": base.name, "tuned": tuned.name}],
    }  # fmt: skip
    return {
        **model.family.metadata(parts),
        "modelspec.sai_model_spec": "1.0.1",
        "lora_foundry.made": json.dumps(told, ensure_ascii=False),
    }
