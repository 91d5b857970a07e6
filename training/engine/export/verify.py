"""Prove that a written file is what was trained, before anyone is told of success.

The file is opened again and put on a fresh model through forward hooks of our own, as a reading program would: what is
compared is what a user will get, not what we meant to write.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from training.engine import rng
from training.engine.device import autocast
from training.engine.errors import EngineError
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.methods.base import Adapter

# Largest relative error of the effect (Frobenius), by number format: rounding of two factors, with room to spare.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 3e-2}
SUFFIXES = ("lora_down.weight", "lora_up.weight", "alpha")


class VerificationError(EngineError):
    """Report a file that does not do what was trained."""


@dataclasses.dataclass(frozen=True)
class LoraFactors:
    """Be one module as read from a file."""

    down: Tensor
    up: Tensor
    scale: float

    def product(self) -> Tensor:
        """Return the change of weight, flattened to (out, in * kh * kw)."""
        return self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))


def read_factors(path: Path) -> dict[str, LoraFactors]:
    """Read a kohya file by module stem; raise VerificationError for anything odd in it."""
    try:
        content = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VerificationError("export_unreadable", f"{path.name} cannot be opened again") from error
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in content.items():
        stem, _, suffix = key.partition(".")
        if suffix not in SUFFIXES:
            raise VerificationError("export_key", f"{path.name}: no program reads {key!r}")
        if not torch.isfinite(tensor).all():
            raise VerificationError(
                "export_not_finite", f"{path.name}: {key!r} holds values that are not finite"
            )
        groups.setdefault(stem, {})[suffix] = tensor
    found: dict[str, LoraFactors] = {}
    for stem, group in groups.items():
        if len(group) != len(SUFFIXES):
            raise VerificationError("export_key", f"{path.name}: {stem!r} is not whole")
        down, up = group["lora_down.weight"], group["lora_up.weight"]
        found[stem] = LoraFactors(down, up, float(group["alpha"]) / down.shape[0])
    if not any(bool(f.up.any()) for f in found.values()):
        raise VerificationError(
            "export_empty", f"{path.name} changes nothing: every up factor is zero",
            hint="Train for at least one step with a learning rate above zero.",
        )  # fmt: skip
    return found


def readable_names(family: ModelFamily, modules: Mapping[str, nn.Module]) -> dict[str, tuple[str, str]]:
    """Map every name a reading program knows to (part, module path): one for each linear or convolution layer."""
    return {
        family.export_names.name(part, name): (part, name)
        for part, model in modules.items() for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and ".lora_" not in name
    }  # fmt: skip


def base_layer_names(family: ModelFamily, parts: Parts) -> set[str]:
    """Return the names a reading program knows, taken from the live model, adapters left out."""
    names = readable_names(family, parts.adaptable)
    return {stem.removesuffix("_base_layer") for stem in names}


def verify_file(path: Path, family: ModelFamily, parts: Parts, adapter: Adapter) -> dict[str, LoraFactors]:
    """Check names, numbers and that each module's change of weight equals the trained one."""
    factors = read_factors(path)
    unknown = factors.keys() - base_layer_names(family, parts)
    if unknown:
        raise VerificationError("export_key", f"{path.name}: no program reads {sorted(unknown)[0]!r}")
    seen = 0
    for delta in adapter.deltas():
        stem = family.export_names.name(delta.part, delta.module)
        if stem not in factors:
            raise VerificationError("export_key", f"{path.name}: {stem!r} is missing")
        read = factors[stem]
        trained = LoraFactors(delta.down.cpu(), delta.up.cpu(), delta.scale).product()
        error, size = float((read.product() - trained).norm()), float(trained.norm())
        # Below fp16's smallest steps a factor vanishes; such a change is far under what a picture shows.
        if error > TOLERANCE[read.down.dtype] * size + 1e-7 * trained.numel() ** 0.5:
            raise VerificationError(
                "export_differs", f"{path.name}: {stem!r} is off by {error / max(size, 1e-12):.1%}"
            )
        seen += 1
    if seen != len(factors):
        raise VerificationError(
            "export_key", f"{path.name} holds {len(factors)} modules, {seen} were trained"
        )
    return factors


@torch.no_grad()
def verify_effect(
    factors: Mapping[str, LoraFactors], family: ModelFamily, parts: Parts, adapter: Adapter, text: TextRow,
    precision: str,
) -> float:  # fmt: skip
    """Run a fresh denoiser with the file's factors beside the trained one; return the relative error of the effect.

    Raise VerificationError when it is larger than rounding explains.
    """
    device = parts.device
    shape = family.latent_shape(parts, 8 * family.divisor, 8 * family.divisor)
    noised = torch.randn((2, *shape), generator=rng.generator(0, "verify")).to(device)
    t = torch.tensor([250, 750], device=device)
    rows = {name: tensor.to(device) for name, tensor in family.collate_text([text, text]).items()}

    def forward(which: Parts) -> Tensor:
        with autocast(precision, device):
            return family.forward(which, noised, t, rows).float()

    trained = forward(parts)
    with adapter.disabled():
        base = forward(parts)
    fresh = dataclasses.replace(parts, denoiser=_fresh_denoiser(family, parts))
    with hooked(fresh.denoiser, readable_names(family, {"denoiser": fresh.denoiser}), factors):
        reloaded = forward(fresh)
    error = float((reloaded - trained).norm())
    effect = float((trained - base).norm())
    noise = (1e-5 if precision == "fp32" else 1e-2) * float(base.norm())
    tolerance = max(TOLERANCE[f.down.dtype] for f in factors.values())
    if error > 2 * tolerance * effect + noise:
        raise VerificationError(
            "export_differs", f"the file's effect is off by {error / max(effect, 1e-12):.1%}"
        )
    return error / max(effect, 1e-12)


def _fresh_denoiser(family: ModelFamily, parts: Parts) -> nn.Module:
    if parts.folder is None:
        return family.tiny().denoiser
    dtype = next(iter(parts.denoiser.parameters())).dtype
    return family.load_denoiser(parts.folder, device=parts.device, dtype=dtype)


@contextmanager
def hooked(
    model: nn.Module, names: Mapping[str, tuple[str, str]], factors: Mapping[str, LoraFactors]
) -> Iterator[None]:
    """Add a file's factors to a model's layers for a while; factors of other parts are left alone."""
    layers = dict(model.named_modules())
    with ExitStack() as stack:
        for stem, read in factors.items():
            if stem in names:
                handle = layers[names[stem][1]].register_forward_hook(_addition(read))
                stack.callback(handle.remove)
        yield


def _addition(read: LoraFactors) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0].float()
        down, up = read.down.to(x.device).float(), read.up.to(x.device).float()
        if isinstance(module, nn.Conv2d):
            hidden = functional.conv2d(x, down, None, module.stride, module.padding, module.dilation)
            change = functional.conv2d(hidden, up)
        else:
            change = functional.linear(functional.linear(x, down), up)
        return output + (read.scale * change).to(output.dtype)

    return hook
