"""What an architecture must say for itself. The engine does noise, timesteps, targets and the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.engine.diffusion import NoiseProcess

TextRow = dict[str, Tensor]
"""The encoded form of one prompt, without a batch dimension."""


@dataclasses.dataclass
class Parts:
    """Hold a loaded base model. ``adaptable`` maps a part's name to the module that may carry adapters."""

    denoiser: nn.Module
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    scheduler_config: dict[str, Any]
    process: NoiseProcess
    folder: Path | None = None

    @property
    def adaptable(self) -> dict[str, nn.Module]:
        """Return the modules a method may adapt, by part name."""
        return {"denoiser": self.denoiser, "text_encoder": self.text_encoder}

    @property
    def device(self) -> torch.device:
        """Return where the denoiser lives."""
        return next(self.denoiser.parameters()).device

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Return everything that has weights."""
        return (self.denoiser, self.vae, self.text_encoder)

    def freeze(self) -> None:
        """Switch everything to evaluation and no gradient; adapters are attached afterwards."""
        for module in self.modules:
            module.requires_grad_(False).eval()

    def to(self, device: torch.device) -> Parts:
        """Move all weights to a device and return this."""
        for module in self.modules:
            module.to(device)
        return self

    def bytes(self) -> int:
        """Return how much memory the weights take."""
        tensors = (t for module in self.modules for t in (*module.parameters(), *module.buffers()))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclasses.dataclass(frozen=True)
class ExportNames:
    """Say how a file of the kohya layout names the modules of each part.

    ``prefixes`` gives e.g. {"denoiser": "lora_unet"}; ``rename`` turns our module path into the path that the
    reading programs know, before dots become underscores.
    """

    prefixes: Mapping[str, str]
    rename: Callable[[str, str], str]

    def name(self, part: str, module: str) -> str:
        """Return the key stem of a module, for example ``lora_unet_mid_block_attentions_0_proj_in``."""
        return f"{self.prefixes[part]}_{self.rename(part, module).replace('.', '_')}"


class ModelFamily(Protocol):
    """Describe one architecture. A new family is this protocol in 60 to 120 lines."""

    name: str
    title: str
    divisor: int
    """Pixel sizes of pictures must be multiples of this."""
    presets: Mapping[str, Mapping[str, Sequence[str]]]
    """Target preset -> part -> endings of module names that get an adapter."""
    export_names: ExportNames

    def load(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> Parts:
        """Load a base model; the denoiser in ``dtype``, the VAE in fp32."""

    def load_denoiser(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Load only the denoiser, fresh, for the verification of an export."""

    def save(self, parts: Parts, folder: Path) -> None:
        """Write a base model in the layout that ``load`` reads."""

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Encode prompts one row each; keeps gradients when they are enabled."""

    def collate_text(self, rows: Sequence[TextRow]) -> TextRow:
        """Stack rows to a batch."""

    def encode_image(self, parts: Parts, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, H, W) in [-1, 1] into normalised latents; deterministic."""

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        """Turn normalised latents into pixels (B, 3, H, W) in [-1, 1]."""

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return the shape of the latents of one picture, without batch."""

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Predict in the shape of ``noised``."""

    def sampler(self, parts: Parts, steps: int) -> Any:
        """Return a diffusers scheduler ready for ``steps`` deterministic steps."""

    def cache_identity(self, folder: Path) -> Mapping[str, Sequence[Path]]:
        """Return which files decide ``latents`` and ``text``, to key the caches by content."""

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Return the ``ss_*`` and ``modelspec.*`` entries that name the architecture."""

    def tiny(self) -> Parts:
        """Build a random model of this architecture, offline, small enough for a test."""
