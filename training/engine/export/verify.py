"""Prove that a written file is what was trained, before anyone is told of success.

The file is opened again and put on a fresh model through forward hooks of our own, as a reading program would: what is
compared is what a user will get, not what we meant to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.engine import rng
from training.engine.device import autocast
from training.engine.diffusion import within
from training.engine.export.factors import VerificationError, read_factors
from training.engine.export.table import ExportTable, Slot
from training.engine.families.base import DENOISER, ModelFamily, Parts, TextRow, View
from training.engine.methods.base import Adapter
from training.engine.methods.changes import Change, shaped, weight_of

# Largest relative error of the effect (Frobenius), by number format: rounding of two factors, with room to spare.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 3e-2}


def verify_file(path: Path, table: ExportTable, parts: Parts, adapter: Adapter) -> dict[str, Change]:
    """Check names, numbers and that each module's change of weight equals the trained one."""
    factors = read_factors(path)
    slots = table.slots(parts.adaptable)
    unknown = factors.keys() - slots.keys()
    if unknown:
        raise VerificationError("export_key", f"{path.name}: no program reads {sorted(unknown)[0]!r}")
    in_file = {
        (slot.part, slot.module): factors[stem].rows(slot.rows) for stem in factors for slot in slots[stem]
    }
    seen = 0
    for delta in adapter.deltas():
        stem = table.stem(delta.part, delta.module)
        read = in_file.get((delta.part, delta.module))
        if read is None:
            raise VerificationError("export_key", f"{path.name}: {stem!r} is missing")
        weight = weight_of(delta.layer)
        trained = delta.change.change_of(weight)
        error = float((read.to(weight.device).change_of(weight) - trained).norm())
        size = float(trained.norm())
        # Below fp16's smallest steps a factor vanishes; such a change is far under what a picture shows.
        if error > TOLERANCE[read.dtype] * size + 1e-7 * trained.numel() ** 0.5:
            raise VerificationError(
                "export_differs", f"{path.name}: {stem!r} is off by {error / max(size, 1e-12):.1%}"
            )
        seen += 1
    if seen != len(in_file):
        raise VerificationError(
            "export_key", f"{path.name} holds {len(in_file)} modules, {seen} were trained"
        )
    return factors


@torch.no_grad()
def verify_effect(
    factors: Mapping[str, Change], family: ModelFamily, table: ExportTable, parts: Parts, adapter: Adapter,
    text: TextRow, precision: str,
) -> float:  # fmt: skip
    """Run a fresh denoiser with the file's factors beside the trained one; return the relative error of the effect.

    Raise VerificationError when it is larger than rounding explains.
    """
    device = parts.device
    side = min(8 * family.divisor, 128)  # four places a side or more, whatever the autoencoder's factor
    shape = family.latent_shape(parts, side, side)
    noised = torch.randn((2, *shape), generator=rng.generator(0, "verify")).to(device)
    u = within(torch.tensor([0.25, 0.75], dtype=torch.float64), parts.noise_range)
    t = parts.process.timesteps(u).to(device)
    row = {**text, **family.geometry(parts, View.whole(side, side))}
    rows = {name: tensor.to(device) for name, tensor in family.collate_text([row, row]).items()}

    def forward(which: Parts) -> Tensor:
        with autocast(precision, device):
            return family.forward(which, noised, t, rows).float()

    trained = forward(parts)
    with adapter.disabled():
        base = forward(parts)
    fresh = parts.with_denoiser(_fresh_denoiser(family, parts))
    with hooked(fresh.denoiser, table.slots({DENOISER: fresh.denoiser}), factors):
        reloaded = forward(fresh)
    error = float((reloaded - trained).norm())
    effect = float((trained - base).norm())
    noise = (1e-5 if precision == "fp32" else 1e-2) * float(base.norm())
    tolerance = max(TOLERANCE[f.dtype] for f in factors.values())
    if error > 2 * tolerance * effect + noise:
        raise VerificationError(
            "export_differs", f"the file's effect is off by {error / max(effect, 1e-12):.1%}"
        )
    return error / max(effect, 1e-12)


def _fresh_denoiser(family: ModelFamily, parts: Parts) -> nn.Module:
    if parts.folder is None:
        return family.tiny().denoiser
    dtype = next(iter(parts.denoiser.parameters())).dtype
    return family.load_denoiser(parts.folder, device=parts.device, dtype=dtype, name=parts.denoiser_name)


@contextmanager
def hooked(
    model: nn.Module, slots: Mapping[str, list[Slot]], factors: Mapping[str, Change]
) -> Iterator[None]:
    """Add a file's factors to a model's layers for a while; factors of other parts are left alone."""
    layers = dict(model.named_modules())
    with ExitStack() as stack:
        for stem, read in factors.items():
            for slot in slots.get(stem, ()):
                layer: Any = layers[slot.module]
                layer = getattr(layer, "base_layer", layer)  # where an adapter is trained around it
                addition = _addition(shaped(read.rows(slot.rows), layer))
                stack.callback(layer.register_forward_hook(addition).remove)
        yield


def _addition(change: Change) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    placed = change

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        nonlocal placed
        x = inputs[0]
        if placed.device != x.device:  # the layer's own weight may wait elsewhere until it is needed
            placed = placed.to(x.device)
        return output + placed.added(x, module).to(output.dtype)

    return hook
