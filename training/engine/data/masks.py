"""Masks: which parts of a picture are learned, cut like the picture and brought to the grid of its latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from training.engine.data.buckets import Size
from training.engine.data.cache import Row, TensorCache, content_key
from training.engine.data.encoding import Shot
from training.engine.data.pictures import load_mask
from training.engine.progress import Progress

MASK_VERSION = 1

Grid = Callable[[Size], tuple[int, int]]
"""Gives rows and columns of the latents of a bucket."""


class EncodedMasks:
    """Hold masks of pictures on the grid of their latents, as (1, h, w) in [0, 1]; 1 is learned."""

    def __init__(self, folder: Path, grid: Grid) -> None:
        """Open what earlier runs cut; it depends on no model."""
        self._grid = grid
        self._cache = TensorCache(folder / "masks" / f"v{MASK_VERSION}")

    def fill(self, shots: Iterable[Shot], *, progress: Progress) -> int:
        """Cut the masks that are not there yet and return how many that were.

        Raise DataError for a file that cannot be decoded.
        """
        wanted = {self._key(shot): shot for shot in shots if shot.picture.mask}

        def cut(keys: Sequence[str]) -> list[Row]:
            return [{"mask": self._cut(wanted[key])} for key in keys]

        # The pictures are there by now, so the bar stands at its end.
        return self._cache.fill(wanted, cut, progress=lambda done, total: progress(total, total))

    def mask(self, shot: Shot) -> Tensor | None:
        """Return the mask of a shot that is there, None where the whole picture is learned."""
        return self._cache.get(self._key(shot))["mask"] if shot.picture.mask else None

    def _cut(self, shot: Shot) -> Tensor:
        picture = shot.picture
        assert picture.mask is not None
        grid = self._grid(picture.bucket)
        pixels = load_mask(
            picture.mask, *picture.bucket, original=picture.original, flip=shot.flip, corner=shot.corner,
            own_alpha=picture.mask == picture.item.path,
        )  # fmt: skip
        cells: Tensor = torch.nn.functional.adaptive_avg_pool2d(pixels, grid)
        return cells

    def _key(self, shot: Shot) -> str:
        item = shot.picture.item
        by_file = shot.picture.mask != item.path
        return content_key(
            shot.key, item.mask_sha256 if by_file else "alpha", *self._grid(shot.picture.bucket)
        )
