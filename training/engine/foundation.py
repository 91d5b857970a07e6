"""Bring a base model to its device as a run wants it: plain, quantised, or with its blocks in the host's memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.engine.device import pick_precision, weights_dtype
from training.engine.families.sources import base_folder
from training.engine.memory_plan import MemoryPlan, Wishes
from training.engine.offload import HOST, offload
from training.engine.quantise import installed_kinds, quantise
from training.engine.recompute import set_level
from training.engine.resident import load_base
from training.engine.training_section import CHECKPOINTING

if TYPE_CHECKING:
    from training.engine.api import LoRATrainer
    from training.engine.checkpoint import Loaded
    from training.engine.families.base import ModelFamily, Parts


def wishes(trainer: LoRATrainer) -> Wishes:
    """Return what the recipe leaves to the memory plan, as far as this device and this model have it."""
    spec, device = trainer.spec, trainer.device
    wanted = spec.training.precision
    precision: tuple[str, ...] = (pick_precision(wanted, device),)
    if wanted == "auto" and device.type == "cpu":
        precision = ("fp32", "bf16")  # which is no faster there, but half
    kind, away = spec.base_model.quantise, spec.training.offload
    level = spec.training.gradient_checkpointing
    return Wishes(
        precision=precision,
        quantise=("none", *installed_kinds()) if kind == "auto" else (kind,),
        offload=("off",) if device.type == "cpu" else ("off", "on") if away == "auto" else (away,),
        gradient_checkpointing=CHECKPOINTING if level == "auto" else (level,),
        batch=spec.training.batch_size,
    )


def saved_plan(trainer: LoRATrainer, loaded: Loaded) -> MemoryPlan:
    """Return the plan of a checkpoint, with what the recipe says now and did not say then of memory alone."""
    state, training, wished = loaded.state, trainer.spec.training, wishes(trainer)
    before = loaded.recipe["training"]

    def now(name: str, saved: str) -> str:
        allowed: Sequence[str] = getattr(wished, name)
        is_told = before[name] != getattr(training, name) and len(allowed) == 1
        return allowed[0] if is_told else saved

    offload = now("offload", state.offload)
    level = (
        CHECKPOINTING[-1] if offload == "on" else now("gradient_checkpointing", state.gradient_checkpointing)
    )
    return MemoryPlan(trainer.precision, state.quantise, offload, level, state.micro_batch)


def load(trainer: LoRATrainer) -> Parts:
    """Return the base model with the denoiser that is trained, its encoders on the device.

    The denoiser is in the host's memory where it may have to be changed before it goes to the device.
    """
    device, wanted = trainer.device, wishes(trainer)
    parts = trainer.given_base
    if parts is None:
        folder = base_folder(trainer.family, trainer.spec.base_model, trainer.cache_dir)
        is_plain = (wanted.quantise, wanted.offload) == (("none",), ("off",))
        parts = load_base(
            trainer.family,
            folder,
            device=device if is_plain else HOST,
            dtype=weights_dtype(trainer.precision),
        )
    parts = parts.with_expert(trainer.spec.method.expert)
    stay = [parts.denoiser, *parts.idle]
    for module in parts.modules:
        if not any(module is each for each in stay):
            module.to(device)
    return parts


def lend(parts: Parts, device: torch.device) -> None:
    """Have the denoisers that are not trained draw on a GPU too, their blocks in the host's memory until used."""
    if device.type != "cpu":
        for denoiser in parts.idle:
            offload(denoiser, device)


def settle(denoiser: nn.Module, plan: MemoryPlan, device: torch.device) -> None:
    """Bring a denoiser to the device in the way of a plan, in place; before an adapter is attached."""
    dtype = weights_dtype(plan.precision)
    if next(denoiser.parameters()).dtype != dtype:
        denoiser.to(dtype)
    if plan.quantise != "none":
        quantise(denoiser, plan.quantise, device)
    if plan.offload == "on":
        offload(denoiser, device)
    else:
        denoiser.to(device)


def reload(trainer: LoRATrainer, plan: MemoryPlan) -> None:
    """Put a fresh denoiser from the base model's folder in the place of the trainer's, in the way of a plan.

    It has no adapter then, and the text encoders have none.
    """
    parts = trainer.parts
    assert parts.folder is not None
    # The old one goes first: both may be more than there is.
    trainer.detach()
    parts.components[parts.denoiser_name] = nn.Identity()
    fresh = trainer.family.load_denoiser(
        parts.folder, device=HOST, dtype=weights_dtype(plan.precision), name=parts.denoiser_name
    )
    settle(fresh, plan, trainer.device)
    trainer.parts = parts.with_denoiser(fresh)


def supports_checkpointing(denoiser: nn.Module) -> bool:
    """Tell whether a denoiser has levels of gradient checkpointing."""
    return set_level(denoiser, "off")


def alike(family: ModelFamily, plan: MemoryPlan) -> ModelFamily:
    """Return the family with fresh denoisers made as a plan has them, to compare with the one that was trained."""
    if plan.quantise == "none" and plan.offload == "off":
        return family
    changed = copy.copy(family)

    def load_denoiser(
        folder: Path, *, device: torch.device, dtype: torch.dtype, name: str | None = None
    ) -> nn.Module:
        fresh = family.load_denoiser(folder, device=HOST, dtype=dtype, name=name)
        settle(fresh, plan, device)
        return fresh

    changed.load_denoiser = load_denoiser  # type: ignore[method-assign]
    return changed
