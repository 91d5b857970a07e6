"""Weight-decomposed low-rank adaptation (Liu et al. 2024): LoRA turns the weight, lengths of their own stretch it.

peft measures the lengths of rows, of the weight with the LoRA in it. Of the programs that read kohya's names, only the
lengths of columns mean the same to all: A1111 knows no others, and ComfyUI and Forge divide rows by the lengths of the
weight without the LoRA. So columns are trained where such files are made, and rows where peft's names are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.engine.export.table import chosen_table
from training.engine.families.base import ModelFamily
from training.engine.methods.changes import Decomposed, weight_of
from training.engine.methods.layers import ADAPTER
from training.engine.methods.lora import Lora
from training.engine.spec import RunSpec

MAGNITUDE = "magnitude"


class Dora(Lora):
    """Add a magnitude for each row or column to LoRA, which is first the base weight's own."""

    name = "dora"

    def prepared(self, layer: Any, family: ModelFamily, spec: RunSpec) -> Any:
        """Give a LoRA layer its lengths, which act around it."""
        weight = weight_of(layer.get_base_layer())
        by_row = chosen_table(family.exports, spec.output.layout, family.title).layout == "peft"
        shape = [1] * weight.ndim
        shape[0 if by_row else 1] = weight.shape[0 if by_row else 1]
        layer.register_parameter(MAGNITUDE, nn.Parameter(torch.ones(shape)))
        if by_row:
            layer.register_forward_hook(self._stretch_output)
        else:
            layer.register_forward_pre_hook(self._stretch_input)
        return layer

    def parameters(self, layer: Any) -> Mapping[str, nn.Parameter]:
        """Return A, B and the magnitude, of as many dimensions as the weight."""
        return {**super().parameters(layer), MAGNITUDE: getattr(layer, MAGNITUDE)}

    def fresh(self, layer: Any, name: str, uniform: Tensor) -> Tensor:
        """Measure the magnitude on the base weight, exactly as it is measured in training."""
        if name != MAGNITUDE:
            return super().fresh(layer, name, uniform)
        return self._lengths(layer)

    def change(self, layer: Any) -> Decomposed:
        """Return the factors and the magnitude."""
        down, up, magnitude = self.parameters(layer).values()
        return Decomposed(down, up, magnitude, scale=layer.scaling[ADAPTER])

    @torch.no_grad()
    def _lengths(self, layer: Any) -> Tensor:
        change = self.change(layer)
        weight = weight_of(layer.get_base_layer()).to(change.device)
        with torch.autocast(weight.device.type, enabled=False):
            return change.lengths(change.merged(weight))

    def _stretch(self, layer: Any) -> Tensor:
        """Return magnitude over length; gradients do not go through the length (section 4.3 of the paper)."""
        magnitude: Tensor = getattr(layer, MAGNITUDE)
        return magnitude / self._lengths(layer)

    def _stretch_input(self, layer: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Multiply the inputs, which is to multiply the columns."""
        if layer.disable_adapters:
            return None
        x, *rest = inputs
        factor = self._stretch(layer)
        # A convolution's inputs are in the second dimension as in the weight, a linear layer's in the last.
        factor = factor if factor.ndim > 2 else factor[0]
        return ((x * factor).to(x.dtype), *rest)

    def _stretch_output(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Multiply the outputs but for the bias, which is to multiply the rows."""
        if layer.disable_adapters:
            return None
        excess = self._stretch(layer) - 1.0
        excess = excess.transpose(0, 1) if excess.ndim > 2 else excess[:, 0]
        bias = layer.get_base_layer().bias
        if bias is not None:
            bias = bias.view(1, -1, *[1] * (excess.ndim - 2)) if excess.ndim > 2 else bias
        stretched = output if bias is None else output - bias
        return (output + excess * stretched).to(output.dtype)
