"""A frozen denoiser with weights of eight or four bits: half or a quarter of the memory, for some speed.

Only linear layers within the blocks are quantised. What embeds and projects at the ends is small and matters most, and
the first parameter of a model goes on telling its device and number format.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.engine.blocks import block_linears
from training.engine.errors import ConfigurationError
from training.engine.extras import is_installed, require

LIBRARIES = {"int8": "torchao", "nf4": "bitsandbytes"}
POINTER = "/base_model/quantise"


def installed_kinds() -> tuple[str, ...]:
    """List the kinds whose library is there, the more exact first."""
    return tuple(kind for kind, library in LIBRARIES.items() if is_installed(library))


def quantise(denoiser: nn.Module, kind: str, device: torch.device) -> None:
    """Quantise in place, layer by layer on ``device``, where these layers then are; ``kind`` is int8 or nf4.

    Raise ConfigurationError if the library is missing or the model has no such layers.
    """
    library = require(LIBRARIES[kind], POINTER, "none")
    layers = block_linears(denoiser)
    if not layers:
        raise ConfigurationError(
            "quantise_unsupported", "this base model has no linear layers in blocks that could be quantised",
            hint="Leave the base model as it is.", patch={POINTER: "none"},
        )  # fmt: skip
    for name, layer in layers.items():
        if kind == "int8":
            _to_int8(layer.to(device), library)
        else:
            parent, _, own = name.rpartition(".")
            setattr(denoiser.get_submodule(parent), own, _as_nf4(layer, library).to(device))


def _to_int8(layer: nn.Linear, torchao: Any) -> None:
    """Give a layer a scale for each row and whole numbers (torchao, weights alone)."""
    config = torchao.quantization.Int8WeightOnlyConfig(set_inductor_config=False)
    torchao.quantize_(layer, config, filter_fn=lambda module, name: isinstance(module, nn.Linear))
    layer.requires_grad_(False)


def _as_nf4(layer: nn.Linear, bitsandbytes: Any) -> nn.Module:
    """Return a layer of NormalFloat4 (Dettmers et al. 2023) whose scales are quantised too; it packs when it moves."""
    has_bias, dtype = layer.bias is not None, layer.weight.dtype
    new: nn.Module = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=has_bias, compute_dtype=dtype, quant_type="nf4",
        device="meta",
    )  # fmt: skip
    # A processor's weights would be packed anew in the first pass without gradients, for inference alone.
    new.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    new.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    if has_bias:
        new.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return new.eval()
