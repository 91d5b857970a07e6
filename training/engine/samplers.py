"""Ways to draw a picture from noise. A plugin names its class in the entry-point group ``lora_foundry.samplers``.

A sampler makes a scheduler of diffusers' interface: ``timesteps``, ``step(output, t, x).prev_sample`` and, where it
scales what the model sees, ``scale_model_input`` and ``init_noise_sigma``. It adds no noise of its own: a seed gives
the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import diffusers

from training.engine.families.base import ModelFamily, Parts


class Sampler(Protocol):
    """Be a way to draw, found by name in the registry."""

    def schedule(self, family: ModelFamily, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return a scheduler that is ready for ``steps`` deterministic steps."""


class Auto:
    """Draw as the family does: DDIM, or Euler for flow models."""

    def schedule(self, family: ModelFamily, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return the family's own scheduler."""
        return family.sampler(parts, steps, latent_shape)


class Euler:
    """Draw with Euler steps along the noise level (Karras et al. 2022, algorithm 1 without churn)."""

    def schedule(self, family: ModelFamily, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return diffusers' Euler scheduler for what the model predicts."""
        if parts.process.objective == "flow":
            return family.sampler(parts, steps, latent_shape)
        return _ready(diffusers.EulerDiscreteScheduler, parts, steps)


class Heun:
    """Draw with Heun's second-order steps; each but the last asks the model twice."""

    def schedule(self, family: ModelFamily, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return diffusers' Heun scheduler for what the model predicts."""
        if parts.process.objective == "flow":
            make: Any = diffusers.FlowMatchHeunDiscreteScheduler
            scheduler = make(shift=family.drawing_shift(parts, latent_shape, steps))
            scheduler.set_timesteps(steps)
            return scheduler
        return _ready(diffusers.HeunDiscreteScheduler, parts, steps)


class DpmPlusPlus:
    """Draw with second-order multistep DPM-Solver++ (Lu et al. 2022): good pictures in few steps."""

    def schedule(self, family: ModelFamily, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return diffusers' multistep solver for what the model predicts."""
        if parts.process.objective != "flow":
            return _ready(diffusers.DPMSolverMultistepScheduler, parts, steps, algorithm_type="dpmsolver++")
        make: Any = diffusers.DPMSolverMultistepScheduler
        scheduler = make(
            algorithm_type="dpmsolver++", prediction_type="flow_prediction", use_flow_sigmas=True,
            flow_shift=family.drawing_shift(parts, latent_shape, steps),
        )  # fmt: skip
        scheduler.set_timesteps(steps)
        return scheduler


NOT_THEIRS = ("_class_name", "clip_sample", "algorithm_type", "solver_order")
"""Settings of the scheduler a base model came with that another one must not take over."""


def _ready(cls: Any, parts: Parts, steps: int, **options: Any) -> Any:
    config = {key: value for key, value in parts.scheduler_config.items() if key not in NOT_THEIRS}
    scheduler = cls.from_config(config, **options)
    scheduler.set_timesteps(steps)
    return scheduler
