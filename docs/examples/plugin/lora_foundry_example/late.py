"""A sampler that spends its steps on high noise, where the picture is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch

from training.engine.diffusion import shifted
from training.engine.errors import ConfigurationError
from training.engine.families.base import ModelFamily, Parts

EXTRA_SHIFT = 2.0


class Late:
    """Draw flow models with Euler steps, shifted twice as far as the model asks for."""

    def schedule(self, family: ModelFamily, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return a flow-matching Euler scheduler; raise ConfigurationError for other models."""
        if parts.process.objective != "flow":
            raise ConfigurationError(
                "sampler_unfit", f"{family.title} is no flow model", hint="Use the sampler 'auto'.",
                patch={"/sampling/sampler": "auto"},
            )  # fmt: skip
        scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
        shift = EXTRA_SHIFT * family.shift(parts, latent_shape)
        scheduler.set_timesteps(sigmas=shifted(torch.linspace(1.0, 1.0 / steps, steps), shift).tolist())
        return scheduler
