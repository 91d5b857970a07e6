"""A loaded base model: its components by the names that diffusers gives them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.engine.diffusion import NoiseProcess
from training.engine.errors import ConfigurationError

DENOISER = "denoiser"
"""What the network that removes noise is called among the adaptable parts, whatever its component is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expert:
    """Be one of several denoisers of a base model: its component, and the noise levels (sigma) it is for."""

    component: str
    low: float
    high: float


@dataclasses.dataclass
class Parts:
    """Hold the components of a base model.

    ``components`` maps "vae", "text_encoder", "tokenizer_2", ... to modules and tokenizers; ``denoiser_name`` is
    "unet" or "transformer", ``encoder_names`` the text encoders that are models; ``settings`` is what the model's index
    says besides its components: the pipeline's class and its own values, e.g. ``boundary_ratio``. ``experts`` are the
    denoisers by name where there are several; ``denoiser_name`` is then the component of the one that is trained.
    """

    components: dict[str, Any]
    denoiser_name: str
    encoder_names: tuple[str, ...]
    scheduler_config: dict[str, Any]
    process: NoiseProcess
    folder: Path | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    experts: Mapping[str, Expert] = dataclasses.field(default_factory=dict)

    @property
    def denoiser(self) -> nn.Module:
        """Return the network that removes noise."""
        module: nn.Module = self.components[self.denoiser_name]
        return module

    @property
    def vae(self) -> nn.Module:
        """Return the picture's encoder and decoder."""
        module: nn.Module = self.components["vae"]
        return module

    @property
    def text_encoders(self) -> dict[str, nn.Module]:
        """Return the text encoders by component name."""
        return {name: self.components[name] for name in self.encoder_names}

    @property
    def adaptable(self) -> dict[str, nn.Module]:
        """Return the modules a method may adapt, by part name."""
        return {DENOISER: self.denoiser, **self.text_encoders}

    @property
    def device(self) -> torch.device:
        """Return where the denoiser lives."""
        return next(self.denoiser.parameters()).device

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Return everything that has weights."""
        return tuple(each for each in self.components.values() if isinstance(each, nn.Module))

    @property
    def expert(self) -> str | None:
        """Return the name of the expert that is trained; None where one denoiser does it all."""
        return next((name for name, e in self.experts.items() if e.component == self.denoiser_name), None)

    @property
    def noise_range(self) -> tuple[float, float]:
        """Return the noise levels that the denoiser is for, as sigma."""
        if self.expert is None:
            return 0.0, 1.0
        chosen = self.experts[self.expert]
        return chosen.low, chosen.high

    @property
    def idle(self) -> tuple[nn.Module, ...]:
        """Return the denoisers that are not the one that is trained: used for drawing, kept out of the way."""
        return tuple(
            self.components[each.component]
            for each in self.experts.values()
            if each.component != self.denoiser_name
        )

    def with_expert(self, name: str) -> Parts:
        """Return the same model with another expert as the denoiser; "auto" is the one for low noise.

        Raise ConfigurationError where the model has one denoiser for all noise levels.
        """
        if not self.experts:
            if name == "auto":
                return self
            raise ConfigurationError(
                "no_experts", "the base model has one denoiser for all noise levels",
                hint="Leave the choice of a denoiser to auto.", patch={"/method/expert": "auto"},
            )  # fmt: skip
        chosen = self.experts["low" if name == "auto" else name]
        return dataclasses.replace(self, denoiser_name=chosen.component)

    def with_denoiser(self, denoiser: nn.Module) -> Parts:
        """Return the same model with another denoiser."""
        components = {**self.components, self.denoiser_name: denoiser}
        return dataclasses.replace(self, components=components)

    def pipeline(self, cls: Any) -> Any:
        """Return a diffusers pipeline of these very components, for what it knows of prompts and packing.

        Components that the model does not have are None in it.
        """
        wanted = set(inspect.signature(cls.__init__).parameters)
        scheduler = _scheduler(self.scheduler_config)
        given = {"scheduler": scheduler, **self.settings, **self.components}
        required = {
            name for name, parameter in inspect.signature(cls.__init__).parameters.items()
            if name != "self" and parameter.default is inspect.Parameter.empty
        }  # fmt: skip
        missing = dict.fromkeys(required - given.keys())
        return cls(**missing, **{name: each for name, each in given.items() if name in wanted})

    def freeze(self) -> None:
        """Switch everything to evaluation and no gradient; adapters are attached afterwards."""
        for module in self.modules:
            module.requires_grad_(False).eval()

    def to(self, device: torch.device) -> Parts:
        """Move all weights but those of idle denoisers to a device and return this."""
        idle = self.idle
        for module in self.modules:
            if not any(module is each for each in idle):
                module.to(device)
        return self

    def bytes(self) -> int:
        """Return how much memory the weights take."""
        tensors = (t for module in self.modules for t in (*module.parameters(), *module.buffers()))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _scheduler(config: dict[str, Any]) -> Any:
    import diffusers

    return getattr(diffusers, config["_class_name"]).from_config(config)
