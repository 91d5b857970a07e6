"""The noise that a sample is trained with: from (seed, step, sample) alone, whatever the device or the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.engine import rng
from training.engine.spec import TrainingSpec

LEVELS = 6


def sample_noise(training: TrainingSpec, shape: Sequence[int], step: int, index: int) -> Tensor:
    """Return noise (C, ...) in fp32 on the CPU, with the offset and the coarse parts that the recipe asks for."""
    noise = torch.randn(tuple(shape), generator=rng.generator(training.seed, "noise", step, index))
    if training.multires_discount:
        noise = _with_coarse_parts(noise, training.multires_discount, training.seed, step, index)
    if training.noise_offset:
        offset = rng.generator(training.seed, "noise-offset", step, index)
        noise += training.noise_offset * torch.randn(
            (shape[0], *[1] * (len(shape) - 1)), generator=offset
        )  # fmt: skip
    return noise


def _with_coarse_parts(noise: Tensor, discount: float, seed: int, step: int, index: int) -> Tensor:
    """Add noise of ever coarser grids, each weaker by ``discount``, and bring the whole back to variance 1."""
    generator = rng.generator(seed, "noise-multires", step, index)
    height, width = noise.shape[-2:]
    lead = noise.shape[:-2]
    total = noise
    for level in range(1, LEVELS + 1):
        factor = 2.0 + 2.0 * float(torch.rand((), generator=generator))
        coarse = (max(1, int(height / factor**level)), max(1, int(width / factor**level)))
        part = torch.randn((*lead, *coarse), generator=generator)
        flat = part.reshape(1, -1, *coarse)
        fine = functional.interpolate(flat, size=(height, width), mode="bilinear", align_corners=False)
        total = total + fine.reshape(noise.shape) * discount**level
        if 1 in coarse:
            break
    return total / total.std()
