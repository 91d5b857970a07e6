"""One optimizer step's gradients: drawing the samples, splitting them, and the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from training.engine import rng
from training.engine.data.dataset import Dataset, Picture
from training.engine.device import Portions, autocast
from training.engine.diffusion import per_sample_loss
from training.engine.dist import World
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.progress import Progress, untold
from training.engine.spec import RunSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Draw:
    """Be one sample of a step: everything random about it follows from (seed, step, index)."""

    step: int
    index: int
    picture: Picture
    flip: bool
    text: str
    u: float


class StepComputer:
    """Compute loss and gradients of a step, in micro-batches of any size with the same result."""

    def __init__(
        self, spec: RunSpec, family: ModelFamily, parts: Parts, dataset: Dataset, precision: str,
        world: World | None = None,
    ) -> None:  # fmt: skip
        """Take the world whose share of each step is computed here; without one it is all of it."""
        self._spec = spec
        self._family = family
        self._parts = parts
        self._dataset = dataset
        self._precision = precision
        self._world = world or World()
        self.device = parts.device

    def draws(self, step: int) -> list[list[Draw]]:
        """Return the samples of a step (0-based), one list for each batch of one shape."""
        training, dataset = self._spec.training, self._dataset
        seed = training.seed
        index = 0
        batches: list[list[Draw]] = []
        for members in dataset.sampler.step(step):
            batch: list[Draw] = []
            for member in members:
                picture = dataset.train[member]
                flip = training.flip and rng.uniform(seed, "flip", step, index) < 0.5
                dropped = rng.uniform(seed, "caption-dropout", step, index) < training.caption_dropout
                text = "" if dropped else dataset.text(picture, dataset.variant(step, index))
                u = rng.uniform(seed, "timestep", step, index)
                batch.append(Draw(step, index, picture, flip, text, u))
                index += 1
            batches.append(batch)
        return batches

    def backward(self, step: int, micro_batch: int, progress: Progress = untold) -> Tensor:
        """Add the gradients of the mean loss over all samples of a step; return that loss, still on the device.

        Of several processes each adds those of its own samples to the mean over all; ``World.add_up`` does the rest.
        ``micro_batch`` is the most samples computed at once; it changes memory, not numbers (up to rounding).
        ``progress`` counts samples.
        """
        batches = self.draws(step)
        count = sum(len(batch) for batch in batches)
        total = torch.zeros((), device=self.device)
        done = 0
        for whole in batches:
            batch = [draw for draw in whole if self._world.has(draw.index)]
            for start in range(0, len(batch), micro_batch):
                part = batch[start : start + micro_batch]
                loss = self.losses(part).sum() / count
                loss.backward()
                total += loss.detach()
                done += len(part)
                if done < count:
                    progress(done, count)
        return total

    def losses(self, draws: Sequence[Draw]) -> Tensor:
        """Return the weighted loss of each sample, shape (B,)."""
        training = self._spec.training
        latents = torch.stack([self._dataset.latent(d.picture, d.flip) for d in draws])
        noise = torch.stack([self._noise(d, latents.shape[1:]) for d in draws])
        t = self._parts.process.timesteps(torch.tensor([d.u for d in draws], dtype=torch.float64))
        losses = self.denoising_loss(latents, noise, t, self._text([d.text for d in draws]))
        if training.min_snr_gamma is not None:
            losses = losses * self._parts.process.min_snr_weight(t, training.min_snr_gamma).to(self.device)
        return losses

    def denoising_loss(self, latents: Tensor, noise: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Return the plain loss of each sample for given noise and timesteps, shape (B,)."""
        process = self._parts.process
        latents, noise, t = latents.to(self.device), noise.to(self.device), t.to(self.device)
        text = {name: tensor.to(self.device) for name, tensor in text.items()}
        noised = process.add_noise(latents, noise, t)
        with autocast(self._precision, self.device):
            prediction = self._family.forward(self._parts, noised, t, text)
        return per_sample_loss(prediction, process.target(latents, noise, t))

    def _noise(self, draw: Draw, shape: Sequence[int]) -> Tensor:
        training = self._spec.training
        noise = torch.randn(
            tuple(shape), generator=rng.generator(training.seed, "noise", draw.step, draw.index)
        )
        if training.noise_offset:
            offset = rng.generator(training.seed, "noise-offset", draw.step, draw.index)
            noise += training.noise_offset * torch.randn((shape[0], 1, 1), generator=offset)
        return noise

    def _text(self, texts: Sequence[str]) -> TextRow:
        if self._spec.method.text_encoder:
            with autocast(self._precision, self.device):
                rows = self._family.encode_text(self._parts, texts)
        else:
            rows = [self._dataset.text_row(text) for text in texts]
        return self._family.collate_text(rows)

    @torch.no_grad()
    def held_out_loss(self, micro_batch: int, progress: Progress = untold) -> float | None:
        """Return the mean loss over the held-out pictures with noise and timesteps that never change.

        Five timesteps in the middle of fifths of the schedule, the same for every picture; None without such
        pictures. At most ``micro_batch`` are computed at once, fewer if they do not fit the memory.
        """
        pictures = self._dataset.held_out
        if not pictures:
            return None
        work = [(index, level) for index in range(len(pictures)) for level in range(5)]
        work.sort(key=lambda pair: pictures[pair[0]].bucket)
        portions = Portions(micro_batch, self.device)
        losses: list[float] = []
        for _, group in groupby(work, key=lambda pair: pictures[pair[0]].bucket):
            same = list(group)
            for part in portions.each(len(same), lambda part, same=same: self._held_out_part(same[part])):  # type: ignore[misc]
                losses.extend(part.tolist())
                progress(len(losses), len(work))
        return sum(losses) / len(losses)

    def _held_out_part(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Return the losses of (held-out picture, noise level) pairs of one shape."""
        pictures, seed = self._dataset.held_out, self._spec.training.seed
        latents = torch.stack([self._dataset.latent(pictures[i]) for i, _ in pairs])
        noise = torch.stack([
            torch.randn(latents.shape[1:], generator=rng.generator(seed, "held-out-noise", i, level))
            for i, level in pairs
        ])  # fmt: skip
        u = torch.tensor([(level + 0.5) / 5 for _, level in pairs], dtype=torch.float64)
        text = self._text([self._dataset.text(pictures[i]) for i, _ in pairs])
        return self.denoising_loss(latents, noise, self._parts.process.timesteps(u), text)
