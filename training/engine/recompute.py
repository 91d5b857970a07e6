"""Gradient checkpointing in levels: which blocks of a denoiser are computed again in the backward pass.

diffusers' models call one function for each block that may be; a level is another such function. It is
`torch.utils.checkpoint` without reentry, which needs no input with a gradient: a frozen model with an adapter has none.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.utils.checkpoint import checkpoint


def set_level(denoiser: nn.Module, level: str) -> bool:
    """Set the level, ``off``, ``blocks`` (every other one) or ``all``; return False where the model knows none."""
    enable = getattr(denoiser, "enable_gradient_checkpointing", None)
    if enable is None or not getattr(denoiser, "_supports_gradient_checkpointing", True):
        return False
    if level == "off":
        denoiser.disable_gradient_checkpointing()  # type: ignore[operator]
    else:
        enable(_every_other() if level == "blocks" else _again)
    return True


def _again(block: nn.Module, *inputs: Any) -> Any:
    return checkpoint(block, *inputs, use_reentrant=False)


def _every_other() -> Any:
    """Return a function that computes the first block, the third and so on again, in the order of the forward pass."""
    places: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    def run(block: nn.Module, *inputs: Any) -> Any:
        place = places.setdefault(block, len(places))
        return _again(block, *inputs) if place % 2 == 0 else block(*inputs)

    return run
