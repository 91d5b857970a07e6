"""Three figures that say what a LoRA learned, each with the adapter off and on, on the same seeds.

- ``held_out_loss``: denoising loss on pictures never trained on, fixed noise. Smaller is better. It also falls on runs
  whose pictures are ruined, so it never stands alone.
- ``style_distance``: distance of the drawn pictures' colour and edge statistics from the set's. Smaller is closer.
- ``content_score``: share of drawn pictures in which the base model still recognises its prompt among the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.engine import rng
from training.engine.data.pictures import load_image, load_pixels
from training.engine.events import Evaluation

if TYPE_CHECKING:
    from training.engine.api import LoRATrainer

Picture = Image.Image
Vector = NDArray[np.float64]

LEVELS = (0.3, 0.5, 0.7)
"""Shares of the noise schedule at which content is asked for: there shape is decided, not texture."""
REPEATS = 2


def evaluate(trainer: LoRATrainer) -> Evaluation:
    """Compute what can be computed; a figure without its material is None."""
    files = {"base": trainer.sample_files(0), "lora": trainer.sample_files(trainer.state.step)}
    if not files["base"] or not all(path.exists() for side in files.values() for path in side):
        files = {}
    return Evaluation(
        held_out_loss=_held_out(trainer),
        style_distance=_style(trainer, files) if files else None,
        content_score=_content(trainer, files) if files else None,
        images=len(files.get("lora", [])),
    )


def _held_out(trainer: LoRATrainer) -> dict[str, float] | None:
    with_lora = trainer.computer.held_out_loss(8)
    if with_lora is None:
        return None
    with trainer.adapter.disabled():
        base = trainer.computer.held_out_loss(8)
    assert base is not None
    return {"base": round(base, 6), "lora": round(with_lora, 6)}


# -- style -------------------------------------------------------------------------------------------------------------


def style_vector(image: Picture) -> Vector:
    """Return 24 numbers on colour and edges of a picture brought to 64 pixels; none depends on its size."""
    pixels = (
        np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR), dtype=np.float64) / 255.0
    )
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    high, low = pixels.max(2), pixels.min(2)
    saturation = np.where(high > 0, (high - low) / np.maximum(high, 1e-6), 0.0)
    dx, dy = np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]
    edges = np.hypot(dx, dy)
    histogram = np.histogram(grey, bins=8, range=(0.0, 1.0))[0] / grey.size
    quantiles = np.quantile(edges, (0.5, 0.75, 0.9, 0.97))
    return np.concatenate([
        pixels.mean((0, 1)), pixels.std((0, 1)), [saturation.mean(), saturation.std()],
        [grey.mean(), grey.std()], histogram, quantiles, [(edges > 0.1).mean(), edges.mean()],
    ])  # fmt: skip


def style_distance(drawn: Sequence[Picture], wanted: Sequence[Picture]) -> float:
    """Return how far drawn pictures' mean statistics are from the set's, in standard deviations of the set."""
    target = np.stack([style_vector(image) for image in wanted])
    spread = target.std(0) + 0.05
    mean = np.stack([style_vector(image) for image in drawn]).mean(0)
    return float(np.sqrt((((mean - target.mean(0)) / spread) ** 2).mean()))


def _style(trainer: LoRATrainer, files: dict[str, list[Path]]) -> dict[str, float]:
    wanted = [load_image(p.item.path) for p in trainer.dataset.train[:200]]
    return {
        side: round(style_distance([load_image(path) for path in paths], wanted), 4)
        for side, paths in files.items()
    }


# -- content -----------------------------------------------------------------------------------------------------------


def _content(trainer: LoRATrainer, files: dict[str, list[Path]]) -> dict[str, float] | None:
    prompts = trainer.sample_prompts()
    if len(set(prompts)) < 2:
        return None
    return {side: round(content_score(trainer, paths, prompts), 4) for side, paths in files.items()}


@torch.no_grad()
def content_score(trainer: LoRATrainer, paths: Sequence[Path], prompts: Sequence[str]) -> float:
    """Return the share of pictures that the base model, adapter off, denoises best under their own prompt.

    A zero-shot diffusion classifier (Li et al. 2023): the same noise for every prompt, several noise levels.
    """
    choices = sorted(set(prompts))
    right = 0
    family, parts = trainer.family, trainer.parts
    with trainer.adapter.disabled():
        rows = trainer.text_rows(choices)
        for number, (path, prompt) in enumerate(zip(paths, prompts, strict=True)):
            width, height = Image.open(path).size
            pixels = load_pixels(path, width, height)[None].to(next(parts.vae.parameters()).device)
            latent = family.encode_image(parts, pixels).float().cpu()[0]
            scores = torch.zeros(len(choices))
            for level in LEVELS:
                for repeat in range(REPEATS):
                    noise = torch.randn(latent.shape, generator=rng.generator(0, "content", number, repeat))
                    t = parts.process.timesteps(torch.full((len(choices),), level, dtype=torch.float64))
                    losses = trainer.computer.denoising_loss(
                        latent.expand(len(choices), *latent.shape), noise.expand(len(choices), *noise.shape), t,
                        family.collate_text(rows),
                    )  # fmt: skip
                    scores += losses.cpu()
            right += choices[int(scores.argmin())] == prompt
    return right / len(paths)
