"""Low-rank adaptation (Hu et al. 2021), also with the scale that suits high ranks (rsLoRA, Kalajdzievski 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from peft import LoraConfig
from torch import Tensor, nn

from training.engine.methods.changes import LowRank
from training.engine.methods.layers import ADAPTER, LayerMethod, by_fan_in
from training.engine.spec import RunSpec


class Lora(LayerMethod):
    """Add ``alpha / rank * B @ A``: A starts Kaiming-uniform, B at zero."""

    name = "lora"
    rank_stabilised: ClassVar[bool] = False

    def config(self, spec: RunSpec, *, alpha: float, **sizes: Any) -> LoraConfig:
        """Return peft's config without dropout."""
        return LoraConfig(
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=0.0, bias="none", use_rslora=self.rank_stabilised, **sizes,
        )  # fmt: skip

    def parameters(self, layer: Any) -> Mapping[str, nn.Parameter]:
        """Return A (r, in[, kh, kw]) and B (out, r[, 1, 1])."""
        return {
            "lora_A.weight": layer.lora_A[ADAPTER].weight,
            "lora_B.weight": layer.lora_B[ADAPTER].weight,
        }

    def fresh(self, layer: Any, name: str, uniform: Tensor) -> Tensor:
        """Draw A, zero B."""
        return by_fan_in(uniform) if name.startswith("lora_A") else torch.zeros_like(uniform)

    def change(self, layer: Any) -> LowRank:
        """Return the two factors."""
        down, up = self.parameters(layer).values()
        return LowRank(down, up, scale=layer.scaling[ADAPTER])


class RankStabilisedLora(Lora):
    """Add ``alpha / sqrt(rank) * B @ A``, so that a higher rank does not learn more slowly."""

    name = "rslora"
    rank_stabilised = True
