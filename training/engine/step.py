"""One optimizer step's gradients: drawing the samples, splitting them, and the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from training.engine import rng
from training.engine.data.dataset import Dataset
from training.engine.data.placement import CENTRE, Picture
from training.engine.data.sampler import Batch, filled
from training.engine.device import Portions, autocast
from training.engine.diffusion import DiscreteProcess, within
from training.engine.dist import World
from training.engine.families.base import ModelFamily, Parts, TextRow, View
from training.engine.loss import check_loss, per_sample_loss, spread_times, time_weight
from training.engine.methods.base import Adapter
from training.engine.noise import sample_noise
from training.engine.progress import Progress, untold
from training.engine.spec import RunSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Draw:
    """Be one sample of a step: everything random about it follows from (seed, step, index).

    ``share`` is below 1 where several samples of the step stand for one showing of the picture.
    """

    step: int
    index: int
    picture: Picture
    flip: bool
    text: str
    u: float
    share: float = 1.0
    crop: float = CENTRE

    @property
    def view(self) -> View:
        """Return which part of the picture is seen."""
        return self.picture.view_at(self.crop)


class StepComputer:
    """Compute loss and gradients of a step, in micro-batches of any size with the same result."""

    def __init__(
        self, spec: RunSpec, family: ModelFamily, parts: Parts, dataset: Dataset, precision: str,
        world: World | None = None, *, live_text: bool = False, adapter: Adapter | None = None,
    ) -> None:  # fmt: skip
        """Take the world whose share of each step is computed here; without one it is all of it.

        ``live_text``: texts are encoded anew each time, because the encoders are trained. ``adapter`` is switched off
        where the base model is the teacher of regularisation pictures.
        """
        self._spec = spec
        self._family = family
        self._parts = parts
        self._dataset = dataset
        self._precision = precision
        self._world = world or World()
        self._live_text = live_text
        self._adapter = adapter
        self.device = parts.device
        check_loss(parts.process, spec.training)
        self.process = parts.process
        if spec.training.zero_terminal_snr and isinstance(self.process, DiscreteProcess):
            self.process = self.process.with_zero_terminal_snr()

    def draws(self, step: int) -> list[list[Draw]]:
        """Return the samples of a step (0-based), one list for each batch of one shape."""
        index = 0
        batches: list[list[Draw]] = []
        for members in self._dataset.sampler.step(step):
            batch: list[Draw] = []
            for member, share in self._slots(members):
                batch.append(self.draw(step, index, member, share))
                index += 1
            batches.append(batch)
        return batches

    def _slots(self, members: Batch) -> list[tuple[int, float]]:
        """Return the pictures of a batch, each with its share of the loss."""
        if self._spec.buckets.fill:
            return filled(members, self._spec.training.batch_size)
        return [(member, 1.0) for member in members]

    def draw(self, step: int, index: int, member: int, share: float = 1.0) -> Draw:
        """Draw ``member`` of the samples of the set as sample ``index`` of a step."""
        training, dataset = self._spec.training, self._dataset
        seed, picture = training.seed, dataset.samples[member]
        shot = dataset.drawn_shot(picture, step, index)
        dropped = rng.uniform(seed, "caption-dropout", step, index) < training.caption_dropout
        text = "" if dropped and picture.kind == "train" else dataset.drawn_text(picture, step, index)
        u = rng.uniform(seed, "timestep", step, index)
        return Draw(step, index, picture, shot.flip, text, u, share, shot.crop)

    def backward(self, step: int, micro_batch: int, progress: Progress = untold) -> Tensor:
        """Add the gradients of a step's mean loss, samples by their shares; return that loss, still on the device.

        Of several processes each adds those of its own samples to the mean over all; ``World.add_up`` does the rest.
        ``micro_batch`` is the most samples computed at once; it changes memory, not numbers (up to rounding).
        ``progress`` counts samples.
        """
        batches = self.draws(step)
        samples = sum(len(batch) for batch in batches)
        count = sum(draw.share for batch in batches for draw in batch)
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
                if done < samples:
                    progress(done, samples)
        return total

    def losses(self, draws: Sequence[Draw]) -> Tensor:
        """Return the weighted loss of each sample of one shape, shape (B,)."""
        training = self._spec.training
        latents = torch.stack([self._dataset.latent(d.picture, d.flip, d.crop) for d in draws])
        shape = latents.shape[1:]
        noise = torch.stack([sample_noise(training, shape, d.step, d.index) for d in draws])
        u = spread_times(
            torch.tensor([d.u for d in draws], dtype=torch.float64), training, self._family.timestep_sampling
        )
        shift = training.timestep_shift or self._family.shift(self._parts, shape)
        t = self.process.timesteps(within(u, self._parts.noise_range, shift), shift)
        text = self._text([(d.text, d.view) for d in draws])
        mask = self._mask([self._dataset.mask(d.picture, d.flip, d.crop) for d in draws], latents)
        losses = self.denoising_loss(latents, noise, t, text, mask, self._taught(draws))
        weight = time_weight(self.process, t, training)
        if weight is not None:
            losses = losses * weight.to(self.device)
        counts = [draw.share * draw.picture.weight for draw in draws]
        if any(count != 1.0 for count in counts):
            losses = losses * torch.tensor(counts, device=self.device)
        return losses

    @staticmethod
    def _mask(masks: Sequence[Tensor | None], latents: Tensor) -> Tensor | None:
        """Return the masks of a batch as (B, 1, ..., h, w) for its latents, None where no picture has one."""
        if all(mask is None for mask in masks):
            return None
        whole = torch.ones((1, *latents.shape[-2:]))
        found = torch.stack([whole if mask is None else mask for mask in masks])
        return found.view(len(masks), *[1] * (latents.ndim - 3), *latents.shape[-2:])

    def denoising_loss(
        self, latents: Tensor, noise: Tensor, t: Tensor, text: TextRow, mask: Tensor | None = None,
        taught: Mapping[int, Draw] | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the plain loss of each sample for given noise and times, (B,); ``mask`` (B, 1, h, w) weighs places.

        ``taught`` are the samples by row whose target is what the base model predicts.
        """
        latents, noise, t = latents.to(self.device), noise.to(self.device), t.to(self.device)
        text = {name: tensor.to(self.device) for name, tensor in text.items()}
        noised = self.process.add_noise(latents, noise, t)
        target = self.process.target(latents, noise, t)
        if taught:
            target = target.clone()
            target[list(taught)] = self._teach(taught, noised, t, text).to(target.dtype)
        with autocast(self._precision, self.device):
            prediction = self._family.forward(self._parts, noised, t, text)
        training = self._spec.training
        return per_sample_loss(prediction, target, kind=training.loss, huber_c=training.huber_c, mask=mask)

    def _taught(self, draws: Sequence[Draw]) -> dict[int, Draw]:
        """Return the samples, by their row, that the base model teaches."""
        if not self._spec.prior.teacher:
            return {}
        return {row: draw for row, draw in enumerate(draws) if draw.picture.kind == "regularisation"}

    @torch.no_grad()
    def _teach(self, taught: Mapping[int, Draw], noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Return what the base model alone predicts for some rows of a batch."""
        assert self._adapter is not None, "a teacher is the model without its adapter"
        rows = list(taught)
        with self._adapter.disabled():
            if self._live_text:
                own = self._text([(draw.text, draw.view) for draw in taught.values()])
                text = {name: tensor.to(self.device) for name, tensor in own.items()}
            else:
                text = {name: tensor[rows] for name, tensor in text.items()}
            with autocast(self._precision, self.device):
                return self._family.forward(self._parts, noised[rows], t[rows], text)

    def _text(self, texts: Sequence[tuple[str, View]]) -> TextRow:
        """Encode what each picture is trained with, and what the model is told about its view."""
        if self._live_text:
            with autocast(self._precision, self.device):
                rows = self._family.encode_text(self._parts, [text for text, _ in texts])
        else:
            rows = [self._dataset.text_row(text) for text, _ in texts]
        return self._family.collate_text([
            {**row, **self._family.geometry(self._parts, view)}
            for row, (_, view) in zip(rows, texts, strict=True)
        ])  # fmt: skip

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
        work.sort(key=lambda pair: pictures[pair[0]].shape)
        portions = Portions(micro_batch, self.device)
        losses: list[float] = []
        for _, group in groupby(work, key=lambda pair: pictures[pair[0]].shape):
            same = list(group)
            for part in portions.each(len(same), lambda part, same=same: self._held_out_part(same[part])):  # type: ignore[misc]
                losses.extend(part.tolist())
                progress(len(losses), len(work))
        return sum(losses) / len(losses)

    def _held_out_part(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Return the losses of (held-out picture, noise level) pairs of one shape."""
        pictures, seed = self._dataset.held_out, self._spec.training.seed
        latents = torch.stack([self._dataset.latent(pictures[i]) for i, _ in pairs])
        # By content, so that a picture is measured alike whatever else is held out.
        generators = (
            rng.generator(seed, "held-out-noise/" + pictures[i].item.sha256, level) for i, level in pairs
        )
        noise = torch.stack([torch.randn(latents.shape[1:], generator=each) for each in generators])
        u = torch.tensor([(level + 0.5) / 5 for _, level in pairs], dtype=torch.float64)
        u = within(u, self._parts.noise_range)
        text = self._text([(self._dataset.text(pictures[i]), pictures[i].view) for i, _ in pairs])
        mask = self._mask([self._dataset.mask(pictures[i]) for i, _ in pairs], latents)
        return self.denoising_loss(latents, noise, self.process.timesteps(u), text, mask)
