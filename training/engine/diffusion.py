"""The noise process of discrete diffusion models: noised latents, targets, loss weights.

Formulas: Ho et al. 2020 (eps), Salimans & Ho 2022 (v), Hang et al. 2023 (min-SNR), Lin et al. 2023 (zero SNR).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

Objective = Literal["eps", "v"]


@dataclasses.dataclass(frozen=True)
class NoiseProcess:
    """Hold the schedule ``alphas_cumprod`` (T,) in fp32 and what the model predicts."""

    alphas_cumprod: Tensor
    objective: Objective

    def timesteps(self, u: Tensor) -> Tensor:
        """Map uniform numbers in [0, 1) of shape (B,) to whole timesteps 0..T-1."""
        count = self.alphas_cumprod.shape[0]
        return (u * count).long().clamp_(0, count - 1)

    def _levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas_cumprod.to(device=like.device, dtype=torch.float32)[t.to(like.device)]
        shape = (-1, *[1] * (like.ndim - 1))
        return alpha.sqrt().view(shape), (1.0 - alpha).sqrt().view(shape)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t for clean latents and noise of shape (B, C, H, W) and timesteps (B,)."""
        signal, sigma = self._levels(t, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the model should predict, in the shape of ``x0``."""
        if self.objective == "eps":
            return noise
        signal, sigma = self._levels(t, x0)
        return signal * noise - sigma * x0

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Return the min-SNR weight of each timestep, shape (B,).

        min(snr, gamma) / snr for eps, / (snr + 1) for v; finite also where the SNR is zero.
        """
        alpha = self.alphas_cumprod[t.cpu()].double()
        snr = alpha / (1.0 - alpha).clamp_min(1e-12)
        clipped = snr.clamp_max(gamma)
        if self.objective == "v":
            weight = clipped / (snr + 1.0)
        else:
            weight = torch.where(snr > 0, clipped / snr.clamp_min(1e-30), torch.ones_like(snr))
        return weight.float()


def per_sample_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of each sample in fp32, shape (B,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)
