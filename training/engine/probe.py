"""Measure what the memory plan needs to know: what is free, and what the training of one picture takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.engine.blocks import block_linears
from training.engine.device import free_memory, is_out_of_memory
from training.engine.memory_plan import Weights
from training.engine.resident import available_mb

TOO_MUCH = 2**60
"""What a picture takes that did not fit while it was measured."""


def count_weights(denoiser: nn.Module) -> Weights:
    """Count the numbers of a denoiser that is not quantised yet, without an adapter."""
    linear = sum(layer.weight.numel() for layer in block_linears(denoiser).values())
    return Weights(linear, sum(p.numel() for p in denoiser.parameters()) - linear)


def free_bytes(device: torch.device) -> int:
    """Return how much more memory can be taken."""
    if device.type == "cpu":
        return available_mb() * 2**20
    free_memory(device)
    return int(torch.cuda.mem_get_info(device)[0])


def held_bytes(device: torch.device) -> int:
    """Return what this process holds of a GPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def picture_bytes(losses: Callable[[], Tensor], device: torch.device) -> int:
    """Return what the forward and backward pass of ``losses`` takes at its peak; ``TOO_MUCH`` if it does not fit.

    On the CPU, where nobody counts, it is what autograd keeps of the forward pass, and a tenth for what comes and goes.
    """
    if device.type == "cpu":
        return _kept_bytes(losses) * 11 // 10
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        losses().sum().backward()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return TOO_MUCH
    return torch.cuda.max_memory_allocated(device) - before


def _kept_bytes(losses: Callable[[], Tensor]) -> int:
    """Add up the memory behind all tensors that the backward pass would need, each once, parameters left out."""
    kept: dict[int, int] = {}
    parameters: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        if isinstance(tensor, nn.Parameter):
            parameters.add(tensor.untyped_storage().data_ptr())
        else:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = losses()
    del loss
    return sum(size for place, size in kept.items() if place not in parameters)
