"""Weights that lie in the host's memory and come to the GPU block by block, through diffusers' group offloading."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.engine.blocks import blocks, in_shorter_lists

HOST = torch.device("cpu")


def offload(denoiser: nn.Module, device: torch.device) -> None:
    """Leave the blocks' weights in the host's memory, and bring all others to ``device``.

    Before an adapter is attached: each layer of a block moves its own weights alone, so that those of an adapter stay.
    On a GPU the next layer's come while one is computed, and the host's copies are pinned. A block must be computed
    anew in the backward pass, else its gradients would hold all weights.
    """
    # Imported here: it takes accelerate along.
    from diffusers.hooks import apply_group_offloading

    staying = in_shorter_lists(denoiser)
    moving = [block for block in blocks(denoiser) if block not in staying]
    away = {id(tensor) for block in moving for tensor in _tensors(block)}
    for module in denoiser.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and id(tensor) not in away:
                tensor.data = tensor.data.to(device)
    streams: dict[str, Any] = {"use_stream": True, "record_stream": True} if device.type == "cuda" else {}
    for block in moving:
        apply_group_offloading(
            block, onload_device=device, offload_device=HOST, offload_type="leaf_level", **streams
        )


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
