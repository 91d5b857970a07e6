"""Draw pictures with the live model: fixed seeds, all prompts in one batch, the model's own schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from training.engine import rng
from training.engine.data.pictures import to_image
from training.engine.device import Portions, autocast
from training.engine.families.base import ModelFamily, Parts, TextRow, View
from training.engine.progress import Progress, untold
from training.engine.samplers import Auto, Sampler


class Artist:
    """Draw with a family's model as it is right now."""

    def __init__(
        self, family: ModelFamily, parts: Parts, precision: str, sampler: Sampler | None = None
    ) -> None:
        self._family = family
        self._parts = parts
        self._precision = precision
        self._sampler = sampler or Auto()
        self._portions = Portions(8, parts.device)
        self.frame_rate = family.frame_rate

    @torch.no_grad()
    def draw(
        self, rows: Sequence[TextRow], negative: TextRow, *, seeds: Sequence[int], steps: int, guidance: float,
        width: int, height: int, progress: Progress = untold,
    ) -> list[Image.Image]:  # fmt: skip
        """Return one picture for each text row; a seed gives the same picture in any batch (up to rounding).

        Sides that the model cannot take are a little shorter: multiples of the family's divisor.
        ``progress`` counts denoising steps over all pictures: one step may take half a minute on a CPU.
        """
        clips = self.draw_clips(
            rows, negative, seeds=seeds, steps=steps, guidance=guidance, width=width, height=height, frames=1,
            progress=progress,
        )  # fmt: skip
        return [frame for (frame,) in clips]

    @torch.no_grad()
    def draw_clips(
        self, rows: Sequence[TextRow], negative: TextRow, *, seeds: Sequence[int], steps: int, guidance: float,
        width: int, height: int, frames: int, progress: Progress = untold,
    ) -> list[list[Image.Image]]:  # fmt: skip
        """Return the frames of a clip for each text row; else as ``draw``. A clip of one frame is a picture."""
        size = (width, height, frames)
        return [
            [to_image(frame) for frame in (clip.unbind(1) if frames > 1 else [clip])]
            for clips in self._each(rows, negative, seeds, steps, guidance, size, progress)
            for clip in clips
        ]

    @torch.no_grad()
    def pixels(
        self, rows: Sequence[TextRow], negative: TextRow, *, seeds: Sequence[int], steps: int, guidance: float,
        width: int, height: int, frames: int = 1,
    ) -> Tensor:  # fmt: skip
        """Return the same as ``draw``, (B, 3, H, W), or ``draw_clips``, (B, 3, F, H, W), around [-1, 1]."""
        size = (width, height, frames)
        return torch.cat(list(self._each(rows, negative, seeds, steps, guidance, size, untold)))

    def _each(
        self, rows: Sequence[TextRow], negative: TextRow, seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int, int], progress: Progress,
    ) -> Iterator[Tensor]:  # fmt: skip
        width, height, frames = size
        divisor = self._family.divisor
        size = (max(divisor, width - width % divisor), max(divisor, height - height % divisor), frames)

        def compute(part: slice) -> Tensor:
            count = part.stop - part.start

            def step_done(step: int) -> None:
                progress(part.start * steps + step * count, len(rows) * steps)

            latents = self._denoise(rows[part], negative, seeds[part], steps, guidance, size, step_done)
            return self._family.decode_image(self._parts, latents)

        portions = self._portions if frames == 1 else Portions(1, self._parts.device)
        return portions.each(len(rows), compute)

    def _denoise(
        self, rows: Sequence[TextRow], negative: TextRow, seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int, int], step_done: Callable[[int], None],
    ) -> Tensor:  # fmt: skip
        family, parts, device = self._family, self._parts, self._parts.device
        width, height, frames = size
        shape = family.clip_shape(parts, width, height, frames)
        x = torch.stack([torch.randn(shape, generator=rng.generator(seed, "sample")) for seed in seeds]).to(
            device
        )
        scheduler = self._sampler.schedule(family, parts, steps, shape)
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        told = family.is_told_guidance(parts)
        guided = guidance > 1.0 and not told
        view = family.geometry(parts, View.whole(width, height))
        if told:
            view = {**view, "guidance": torch.tensor(guidance)}
        every = [{**row, **view} for row in [*([negative] * len(rows) if guided else []), *rows]]
        text = {name: tensor.to(device) for name, tensor in family.collate_text(every).items()}
        for number, t in enumerate(scheduler.timesteps.to(device), start=1):
            seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            doubled = torch.cat([seen, seen]) if guided else seen
            times = parts.process.from_scheduler(t).expand(doubled.shape[0])
            with autocast(self._precision, device):
                out = family.forward(parts, doubled, times, text).float()
            if guided:
                plain, prompted = out.chunk(2)
                out = family.guided(plain, prompted, guidance)
            x = scheduler.step(out, t, x).prev_sample
            step_done(number)
        latents: Tensor = x
        return latents
