"""Products that say much with few numbers: of two low-rank products, place by place (LoHa, Hyeon-Woo et al. 2021), and
of Kronecker (LoKr, Yeh et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoHaConfig, LoKrConfig
from torch import Tensor, nn

from training.engine.errors import ConfigurationError
from training.engine.export.factors import HADAMARD, KRONECKER
from training.engine.families.base import ModelFamily
from training.engine.methods.changes import Hadamard, Kronecker, weight_of
from training.engine.methods.layers import ADAPTER, LayerMethod, by_fan_in
from training.engine.spec import RunSpec


class ProductMethod(LayerMethod):
    """Multiply a change of weight from factors before it meets the input."""

    def prepared(self, layer: Any, family: ModelFamily, spec: RunSpec) -> Any:
        """Keep the number format of the base layer, where peft gives back that of the input.

        Raise ConfigurationError for a layer whose weight is packed: peft brings the product into its shape.
        """
        base = layer.get_base_layer()
        if weight_of(base).shape != base.weight.shape:
            raise ConfigurationError(
                "quantise_unsupported", f"the method {self.name!r} does not train on weights of four bits",
                hint="Quantise to int8, or train with the method 'lora'.", patch={"/base_model/quantise": "int8"},
            )  # fmt: skip
        layer.register_forward_hook(_as_autocast)
        return layer


def _as_autocast(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    kind = output.device.type
    return output.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else output


class Loha(ProductMethod):
    """Add ``alpha / rank * (w1_a @ w1_b) * (w2_a @ w2_b)``."""

    name = "loha"

    def config(self, spec: RunSpec, *, alpha: float, **sizes: Any) -> LoHaConfig:
        """Return peft's config; a convolution's kernel is part of its inputs."""
        return LoHaConfig(alpha=alpha, use_effective_conv2d=False, **sizes)  # type: ignore[arg-type]

    def parameters(self, layer: Any) -> Mapping[str, nn.Parameter]:
        """Return w1_a, w2_a (out, r) and w1_b, w2_b (r, in * kh * kw)."""
        return {name: getattr(layer, name)[ADAPTER] for name in HADAMARD}

    def fresh(self, layer: Any, name: str, uniform: Tensor) -> Tensor:
        """Zero w2_b; of the rest, w1_a is drawn with a variance of 1.

        So the first product is as large as LoRA's A, and a learning rate moves both methods about equally: with peft's
        own small values LoHa learns ten times more slowly.
        """
        if name == "hada_w2_b":
            return torch.zeros_like(uniform)
        return uniform * math.sqrt(3.0) if name == "hada_w1_a" else by_fan_in(uniform)

    def change(self, layer: Any) -> Hadamard:
        """Return the four factors."""
        return Hadamard(*self.parameters(layer).values(), scale=layer.scaling[ADAPTER])


class Lokr(ProductMethod):
    """Add ``scale * kron(w1, w2)``; w2 is whole where the rank is at least half of its larger side."""

    name = "lokr"

    def config(self, spec: RunSpec, *, alpha: float, **sizes: Any) -> LoKrConfig:
        """Return peft's config; ``method.factor`` is the side of w1."""
        factor = spec.method.factor or -1
        return LoKrConfig(alpha=alpha, decompose_factor=factor, use_effective_conv2d=False, **sizes)  # type: ignore[arg-type]

    def parameters(self, layer: Any) -> Mapping[str, nn.Parameter]:
        """Return w1, and w2 or its two factors."""
        held = {name: getattr(layer, name) for name in KRONECKER}
        return {name: each[ADAPTER] for name, each in held.items() if ADAPTER in each}

    def fresh(self, layer: Any, name: str, uniform: Tensor) -> Tensor:
        """Zero w2, or the second of its factors."""
        return torch.zeros_like(uniform) if name in ("lokr_w2", "lokr_w2_b") else by_fan_in(uniform)

    def change(self, layer: Any) -> Kronecker:
        """Return the matrices."""
        named = self.parameters(layer)
        first, second = (
            tuple(p for name, p in named.items() if name.startswith(w)) for w in ("lokr_w1", "lokr_w2")
        )
        return Kronecker(first, second, scale=layer.scaling[ADAPTER])
