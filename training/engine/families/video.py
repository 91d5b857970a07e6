"""What video models share: an autoencoder that takes frames, and latents (C, F, h, w) of stills and clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.engine.families.base import ModelFamily, Parts


class VideoFamily(ModelFamily):
    """Describe an architecture whose pictures are clips; a still is a clip of one frame."""

    def encode_image(self, parts: Parts, pixels: Tensor) -> Tensor:
        """Turn stills (B, 3, H, W) or clips (B, 3, F, H, W) into latents (B, C, F', h, w); the posterior's mode."""
        clips = pixels.unsqueeze(2) if pixels.ndim == 4 else pixels
        with torch.no_grad():
            latents: Tensor = parts.vae.encode(clips).latent_dist.mode()  # type: ignore[operator]
        return self.normalise(parts, latents)

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        """Turn latents (B, C, F', h, w) into clips (B, 3, F, H, W), or stills (B, 3, H, W) where F is 1."""
        clips: Tensor = parts.vae.decode(self.denormalise(parts, latents), return_dict=False)[0]  # type: ignore[operator]
        return clips[:, :, 0] if clips.shape[2] == 1 else clips

    def compression(self, parts: Parts) -> tuple[int, int]:
        """Return how many frames and how many pixels a side one place of the latents stands for."""
        vae: Any = parts.vae
        return vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def clip_shape(self, parts: Parts, width: int, height: int, frames: int) -> tuple[int, ...]:
        """Return the shape of the latents of a clip, without batch: (C, 1 + (F - 1) / ft, H / f, W / f)."""
        ft, f = self.compression(parts)
        channels: int = parts.denoiser.config.in_channels  # type: ignore[union-attr, assignment]
        return (channels, 1 + (frames - 1) // ft, height // f, width // f)

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return the shape of the latents of a still: (C, 1, H / f, W / f)."""
        return self.clip_shape(parts, width, height, 1)

    def tokens(self, latent_shape: Sequence[int]) -> int:
        """Count each place of the latents as a token."""
        frames, height, width = latent_shape[-3:]
        return frames * height * width
