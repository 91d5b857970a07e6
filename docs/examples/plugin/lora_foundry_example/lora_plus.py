"""LoRA+ (Hayou et al. 2024): the up factor learns faster than the down factor."""

from __future__ import annotations

from typing import Any

from training.engine.families.base import ModelFamily, Parts
from training.engine.methods.base import Adapter, ParameterGroup
from training.engine.methods.lora import Lora
from training.engine.spec import RunSpec

RATIO = 16.0
"""Learning rate of B over that of A, the paper's recommendation."""


class LoraPlus(Lora):
    """Train LoRA with two learning rates."""

    name = "lora-plus"

    def attach(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> LoraPlusAdapter:
        """Attach LoRA, and part its factors into two groups."""
        return LoraPlusAdapter(super().attach(family, parts, spec))


class LoraPlusAdapter:
    """Be a LoRA adapter in everything but its groups."""

    def __init__(self, inner: Adapter) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def groups(self) -> list[ParameterGroup]:
        """Return each group's down factors, then its up factors at ``RATIO`` times the rate."""
        found = []
        for group in self._inner.groups():
            for factor, ratio in (("lora_A", 1.0), ("lora_B", RATIO)):
                chosen = [(name, p) for name, p in group.parameters if factor in name]
                found.append(ParameterGroup(f"{group.name}/{factor}", chosen, ratio * group.learning_rate))
        return found
