"""Three figures that say what a LoRA learned, each with the adapter off and on, on the same seeds.

- ``held_out_loss``: denoising loss on pictures never trained on, fixed noise. Smaller is better. It also falls on runs
  whose pictures are ruined, so it never stands alone.
- ``style_distance``: distance of the drawn pictures' colour and edge statistics from the set's. Smaller is closer.
- ``content_score``: share of drawn pictures that still show the shape of their prompt, compared with the pictures that
  the base model draws from the same seeds. 1 for the base unless two prompts look alike; larger is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.engine.data.pictures import load_small
from training.engine.errors import Interrupted
from training.engine.events import Evaluation, EventSink, Warning
from training.engine.generation import MOST_OF_THE_SET
from training.engine.progress import Progress

if TYPE_CHECKING:
    from training.engine.api import LoRATrainer

Picture = Image.Image
Vector = NDArray[np.float64]
Figure = dict[str, float] | None
T = TypeVar("T")

EDGE = 64
"""Every picture is judged at so many pixels a side; a larger one is never needed whole, nor two at once."""


def evaluate(trainer: LoRATrainer, progress: Progress) -> Evaluation:
    """Compute what can be computed; a figure without its material, or whose computation fails, is None.

    ``progress`` counts the parts of one figure after another.
    """
    files = {"base": trainer.gallery.files(0), "lora": trainer.gallery.files(trainer.state.step)}
    if not files["base"] or not all(path.exists() for side in files.values() for path in side):
        files = {}
    return Evaluation(
        held_out_loss=figure(trainer.sink, "held_out_loss", lambda: _held_out(trainer, progress)),
        style_distance=figure(trainer.sink, "style_distance", lambda: _style(trainer, files, progress)),
        content_score=figure(trainer.sink, "content_score", lambda: _content(trainer, files, progress)),
        images=len(files.get("lora", [])),
    )


def figure(sink: EventSink, name: str, compute: Callable[[], T]) -> T | None:
    """Return a figure; the file is written and verified by now, so a failure here is no more than a warning."""
    try:
        return compute()
    except Interrupted:
        raise
    except Exception as error:
        sink.emit(Warning(
            "evaluation_failed", f"{name} could not be computed: {error or type(error).__name__}.",
            hint="The finished file is whole; only this figure is missing.",
        ))  # fmt: skip
        return None


def _held_out(trainer: LoRATrainer, progress: Progress) -> Figure:
    micro_batch = trainer.state.micro_batch
    with_lora = trainer.computer.held_out_loss(micro_batch, progress)
    if with_lora is None:
        return None
    with trainer.adapter.disabled():
        base = trainer.computer.held_out_loss(micro_batch, progress)
    assert base is not None
    return {"base": round(base, 6), "lora": round(with_lora, 6)}


def small(paths: Sequence[Path], progress: Progress) -> Iterator[Picture]:
    """Open pictures one after another, scaled down."""
    for number, path in enumerate(paths, start=1):
        yield load_small(path, EDGE)
        progress(number, len(paths))


# -- style -------------------------------------------------------------------------------------------------------------


def style_vector(image: Picture) -> Vector:
    """Return 24 numbers on colour and edges of a picture brought to 64 pixels; none depends on its size."""
    pixels = _pixels(image)
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


def style_vectors(images: Iterable[Picture]) -> Vector:
    """Return ``style_vector`` of each picture, as rows; holds one picture at a time."""
    return np.stack([style_vector(image) for image in images])


def style_distance(drawn: Vector, wanted: Vector) -> float:
    """Return how far drawn pictures' mean statistics are from the set's, in standard deviations of the set.

    Both are ``style_vectors``.
    """
    spread = wanted.std(0) + 0.05
    return float(np.sqrt((((drawn.mean(0) - wanted.mean(0)) / spread) ** 2).mean()))


def _style(trainer: LoRATrainer, files: dict[str, list[Path]], progress: Progress) -> Figure:
    if not files:
        return None
    pictures = [picture.item.path for picture in trainer.dataset.pictures[:MOST_OF_THE_SET]]
    wanted = style_vectors(small(pictures, progress))
    return {
        side: round(style_distance(style_vectors(small(paths, progress)), wanted), 4)
        for side, paths in files.items()
    }


# -- content ----------------------------------------------------------------------------------------------------------


SAME_DRAWING = 0.4
"""Least agreement of outlines: one drawing in two styles agrees by 0.9, unrelated ones by 0.2, ruined ones less."""


def shape_map(image: Picture) -> Vector:
    """Return where a picture has outlines, in any colour: 16 x 16 cells of 64 pixels, mean 0, length 1, as 256 numbers.

    Strong edges are capped, so that a black-and-white drawing and a soft painting of the same thing agree.
    """
    pixels = _pixels(image)
    dx = np.diff(pixels, axis=1, append=pixels[:, -1:])
    dy = np.diff(pixels, axis=0, append=pixels[-1:])
    edges = np.sqrt((dx**2 + dy**2).sum(2))
    edges = np.minimum(edges / max(float(edges.mean()), 1e-4), 4.0)
    padded = np.pad(edges, 2, mode="edge")
    # Cells of 8 pixels every 4: an outline that moved by a pixel or two is the same outline.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (8, 8))[::4, ::4]
    cells: Vector = windows.mean((2, 3)).reshape(-1)
    cells = cells - cells.mean()
    length = float(np.linalg.norm(cells))
    return cells / length if length > 1e-9 else cells


def shape_maps(images: Iterable[Picture]) -> Vector:
    """Return ``shape_map`` of each picture, as rows; holds one picture at a time."""
    return np.stack([shape_map(image) for image in images])


def content_score(drawn: Vector, plain: Vector, prompts: Sequence[str]) -> float:
    """Return the share of pictures whose outlines are those of their own prompt in ``plain``, and of no other.

    Both are ``shape_maps`` of the same prompts and seeds in the same order; ruined pictures score 0. Asking the base
    model which prompt explains a picture best was tried and dropped: with a base in mid-training it was right for 7 of
    8 true ink drawings, and no more often than chance (0 to 1 of 8) for true pictures of dark styles.
    """
    found = [
        prompts[int(row.argmax())] == prompt and float(row.max()) >= SAME_DRAWING
        for row, prompt in zip(drawn @ plain.T, prompts, strict=True)
    ]
    return sum(found) / len(found)


def _content(trainer: LoRATrainer, files: dict[str, list[Path]], progress: Progress) -> Figure:
    prompts = trainer.gallery.prompts
    if not files or len(set(prompts)) < 2:
        return None
    maps = {side: shape_maps(small(paths, progress)) for side, paths in files.items()}
    return {side: round(content_score(drawn, maps["base"], prompts), 4) for side, drawn in maps.items()}


def _pixels(image: Picture) -> Vector:
    """Return a picture as (64, 64, 3) in [0, 1]."""
    small = image.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float64) / 255.0
