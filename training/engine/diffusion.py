"""The noise processes that models are trained under: noised latents, targets, signal-to-noise ratio.

Formulas: Ho et al. 2020 (eps), Salimans & Ho 2022 (v), Lin et al. 2023 (zero SNR), Lipman et al. 2022 and
Esser et al. 2024 (rectified flow and its shift).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from training.engine.errors import ConfigurationError

Objective = Literal["eps", "v", "flow"]


class NoiseProcess(Protocol):
    """Say how latents are noised and what the model predicts. A time ``t`` is what this makes of a number in [0, 1)."""

    @property
    def objective(self) -> Objective:
        """Name what the model predicts."""

    def timesteps(self, u: Tensor, shift: float = 1.0) -> Tensor:
        """Map numbers in [0, 1) of shape (B,), 0 is clean, to times; ``shift`` > 1 moves them towards noise."""

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t for clean latents and noise of shape (B, ...) and times (B,)."""

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the model should predict, in the shape of ``x0``."""

    def snr(self, t: Tensor) -> Tensor:
        """Return the signal-to-noise ratio at each time, shape (B,), in double precision on the CPU."""

    def from_scheduler(self, t: Tensor) -> Tensor:
        """Turn a timestep of the sampler's scheduler into a time."""


@dataclasses.dataclass(frozen=True)
class DiscreteProcess:
    """Hold the schedule ``alphas_cumprod`` (T,) in fp32 and what the model predicts. A time is a whole timestep."""

    alphas_cumprod: Tensor
    objective: Literal["eps", "v"]

    def timesteps(self, u: Tensor, shift: float = 1.0) -> Tensor:
        """Map to whole timesteps 0..T-1."""
        count = self.alphas_cumprod.shape[0]
        return (shifted(u, shift) * count).long().clamp_(0, count - 1)

    def _levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas_cumprod.to(device=like.device, dtype=torch.float32)[t.to(like.device)]
        return _spread(alpha.sqrt(), like), _spread((1.0 - alpha).sqrt(), like)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return sqrt(alpha) x0 + sqrt(1 - alpha) noise."""
        signal, sigma = self._levels(t, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return the noise, or sqrt(alpha) noise - sqrt(1 - alpha) x0 for v."""
        if self.objective == "eps":
            return noise
        signal, sigma = self._levels(t, x0)
        return signal * noise - sigma * x0

    def snr(self, t: Tensor) -> Tensor:
        """Return alpha / (1 - alpha)."""
        alpha = self.alphas_cumprod[t.cpu()].double()
        return alpha / (1.0 - alpha).clamp_min(1e-12)

    def from_scheduler(self, t: Tensor) -> Tensor:
        """Return the same timestep."""
        return t

    def with_zero_terminal_snr(self) -> DiscreteProcess:
        """Return the schedule stretched so that its last step is pure noise (Lin et al. 2023, algorithm 1)."""
        root = self.alphas_cumprod.double().sqrt()
        first, last = root[0].clone(), root[-1].clone()
        root = (root - last) * first / (first - last)
        return dataclasses.replace(self, alphas_cumprod=root.square().float())


@dataclasses.dataclass(frozen=True)
class FlowProcess:
    """Be rectified flow: a time is sigma in (0, 1], the model predicts noise - x0."""

    objective: Literal["flow"] = "flow"
    steps: int = 1000
    """Timesteps of the scheduler for sigma 0 to 1."""

    def timesteps(self, u: Tensor, shift: float = 1.0) -> Tensor:
        """Return sigma in fp32, never below one timestep: at 0 there is nothing to learn."""
        return shifted(u, shift).clamp(1.0 / self.steps, 1.0).float()

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return (1 - sigma) x0 + sigma noise."""
        sigma = _spread(t.to(x0.device, torch.float32), x0)
        return (1.0 - sigma) * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return noise - x0, the same at every time."""
        return noise - x0

    def snr(self, t: Tensor) -> Tensor:
        """Return ((1 - sigma) / sigma) squared."""
        sigma = t.cpu().double()
        return ((1.0 - sigma) / sigma.clamp_min(1e-12)).square()

    def from_scheduler(self, t: Tensor) -> Tensor:
        """Divide a timestep by their number."""
        return t / self.steps


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """View (B,) so that it multiplies (B, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def shifted(u: Tensor, shift: float) -> Tensor:
    """Return shift u / (1 + (shift - 1) u): the noise level that a picture shift^2 times as large needs."""
    return u if shift == 1.0 else shift * u / (1.0 + (shift - 1.0) * u)


def within(u: Tensor, noise_range: tuple[float, float], shift: float = 1.0) -> Tensor:
    """Bring numbers in [0, 1) to those that ``shifted`` moves into a range of noise levels; all of it changes nothing.

    The ends go back through the inverse, s / (shift - (shift - 1) s).
    """
    if noise_range == (0.0, 1.0):
        return u
    low, high = (level / (shift - (shift - 1.0) * level) for level in noise_range)
    return low + (high - low) * u


def dynamic_shift(config: Mapping[str, Any], tokens: int) -> float:
    """Return the shift for a picture of so many tokens, from a scheduler's config.

    exp(mu) with mu linear in the tokens between ``base_shift`` and ``max_shift`` (``calculate_shift`` of diffusers'
    pipelines), or the fixed ``shift`` (``flow_shift`` in multistep schedulers).
    """
    if not config.get("use_dynamic_shifting"):
        return float(config.get("shift") or config.get("flow_shift") or 1.0)
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = base + (tokens - low) * (most - base) / (high - low)
    return math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu


DISCRETE: dict[str, Literal["eps", "v"]] = {"epsilon": "eps", "v_prediction": "v"}


def process_of(config: Mapping[str, Any]) -> NoiseProcess:
    """Read the process from a scheduler's config; raise ConfigurationError for an unknown prediction type."""
    from diffusers import DDIMScheduler

    kind = config.get("prediction_type", "epsilon")
    is_flow = str(config.get("_class_name", "")).startswith("FlowMatch") or config.get("use_flow_sigmas")
    if is_flow or kind == "flow_prediction":
        return FlowProcess(steps=int(config.get("num_train_timesteps", 1000)))
    if kind not in DISCRETE:
        raise ConfigurationError(
            "unknown_prediction", f"prediction type {kind!r} of the base model is not supported"
        )
    schedule: Any = DDIMScheduler.from_config({**config, "_class_name": "DDIMScheduler"})
    return DiscreteProcess(schedule.alphas_cumprod.float(), DISCRETE[kind])
