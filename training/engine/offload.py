"""Weights that lie in the host's memory and come to the GPU block by block, through diffusers' group offloading."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from training.engine.blocks import blocks, in_shorter_lists

HOST = torch.device("cpu")


def offload(denoiser: nn.Module, device: torch.device) -> None:
    """Leave the blocks' weights in the host's memory, and bring all others to ``device``.

    Before an adapter is attached: each layer of a block moves its own weights alone, so that those of an adapter stay.
    On a GPU the next layer's come while one is computed, and the host's copies are pinned. A block that is not computed
    anew in the backward pass holds its weights on the device until then.
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
        for module in block.modules():
            if module._parameters:
                _compute_with_copies(module)
        apply_group_offloading(
            block, onload_device=device, offload_device=HOST, offload_type="leaf_level", **streams
        )


def _compute_with_copies(module: nn.Module) -> None:
    """Have a module compute with other tensors that share its weights' memory.

    Autograd keeps a frozen parameter itself, not what it held: by the time of its gradient the weights would be the
    host's, in a block that is computed anew as well. Another tensor holds the device's until then.
    """
    forward = module.forward

    @functools.wraps(forward)
    def holding(*args: Any, **options: Any) -> Any:
        own = dict(module._parameters)
        module._parameters.update({name: p.detach() for name, p in own.items() if p is not None})  # type: ignore[misc]
        try:
            return forward(*args, **options)
        finally:
            module._parameters.update(own)

    module.forward = holding


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
