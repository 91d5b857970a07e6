"""Draw pictures with the live model: fixed seeds, all prompts in one batch, the model's own schedule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from training.engine import rng
from training.engine.data.pictures import to_image
from training.engine.device import autocast, free_memory, is_out_of_memory
from training.engine.families.base import ModelFamily, Parts, TextRow


class Artist:
    """Draw with a family's model as it is right now."""

    def __init__(self, family: ModelFamily, parts: Parts, precision: str) -> None:
        self._family = family
        self._parts = parts
        self._precision = precision
        self._batch = 8

    @torch.no_grad()
    def draw(
        self, rows: Sequence[TextRow], negative: TextRow, *, seeds: Sequence[int], steps: int, guidance: float,
        width: int, height: int,
    ) -> list[Image.Image]:  # fmt: skip
        """Return one picture for each text row; a seed gives the same picture in any batch (up to rounding)."""
        images: list[Image.Image] = []
        while len(images) < len(rows):
            start = len(images)
            part = slice(start, start + self._batch)
            failed = False
            try:
                latents = self._denoise(rows[part], negative, seeds[part], steps, guidance, width, height)
                pixels = self._family.decode_image(self._parts, latents)
                images.extend(to_image(p) for p in pixels)
            except RuntimeError as error:
                if not is_out_of_memory(error) or self._batch == 1:
                    raise
                failed = True
            if failed:
                self._batch //= 2
                free_memory(self._parts.device)
        return images

    def _denoise(
        self, rows: Sequence[TextRow], negative: TextRow, seeds: Sequence[int], steps: int, guidance: float,
        width: int, height: int,
    ) -> Tensor:  # fmt: skip
        family, parts, device = self._family, self._parts, self._parts.device
        shape = family.latent_shape(parts, width, height)
        x = torch.stack([torch.randn(shape, generator=rng.generator(seed, "sample")) for seed in seeds]).to(
            device
        )
        scheduler = family.sampler(parts, steps)
        x = x * scheduler.init_noise_sigma
        guided = guidance > 1.0
        every = [*([negative] * len(rows) if guided else []), *rows]
        text = {name: tensor.to(device) for name, tensor in family.collate_text(every).items()}
        for t in scheduler.timesteps.to(device):
            doubled = torch.cat([x, x]) if guided else x
            with autocast(self._precision, device):
                out = family.forward(parts, doubled, t.expand(doubled.shape[0]), text).float()
            if guided:
                plain, prompted = out.chunk(2)
                out = plain + guidance * (prompted - plain)
            x = scheduler.step(out, t, x).prev_sample
        latents: Tensor = x
        return latents
