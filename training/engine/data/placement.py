"""A picture in a bucket: what of it is shown there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from training.engine.data.buckets import Buckets, Size
from training.engine.data.clips import is_clip
from training.engine.data.manifest import Item
from training.engine.data.pictures import has_transparency, read_size
from training.engine.data_sections import MaskSpec
from training.engine.errors import DataError
from training.engine.families.base import View

CENTRE = 0.5
Kind = Literal["train", "regularisation"]


@dataclasses.dataclass(frozen=True)
class Picture:
    """Be one picture in one bucket; with several resolutions, a picture of the set is several of these."""

    item: Item
    original: Size
    bucket: Size
    mask: Path | None = None
    """The file that says what of it is learned, which may be its own; None is all."""
    kind: Kind = "train"
    """Which set it belongs to: what is taught, or the pictures mixed in to keep the rest as it was."""
    weight: float = 1.0
    """How much its loss counts."""
    frames: int = 1
    """How many of a clip are shown; 1 is a still."""

    @property
    def shape(self) -> tuple[Size, int]:
        """Return what must be the same within a batch: the bucket, and how many frames."""
        return self.bucket, self.frames

    @property
    def shape_name(self) -> str:
        """Name the shape, of a still ``48x32``, of a clip ``48x32x5``."""
        width, height = self.bucket
        return f"{width}x{height}" + (f"x{self.frames}" if self.frames > 1 else "")

    @property
    def slack(self) -> tuple[int, int]:
        """Return by how many pixels it is wider and higher than its bucket once it is scaled to cover it."""
        (width, height), (bucket_width, bucket_height) = self.original, self.bucket
        scale = max(bucket_width / width, bucket_height / height)
        left, top = round(width * scale) - bucket_width, round(height * scale) - bucket_height
        return max(0, left), max(0, top)

    @property
    def view(self) -> View:
        """Return what is left of it in its bucket, cropped at the centre."""
        return self.view_at(CENTRE)

    def view_at(self, crop: float) -> View:
        """Return what is left of it in its bucket, cropped at a part of its slack: 0 keeps the upper left corner.

        Of a mirrored picture it is the view of what is seen: pictures are mirrored before they are cropped.
        """
        left, top = self.slack
        return View(self.original, (int(left * crop), int(top * crop)), self.bucket)


def places(
    item: Item, buckets: Buckets, masks: MaskSpec, kind: Kind = "train", weight: float = 1.0, frames: int = 1
) -> list[Picture]:
    """Return a picture in each bucket it belongs to, the largest first; ``weight`` is that of its set.

    Of a clip ``frames`` are shown. Raise DataError if it or its mask cannot be read or one does not fit the other.
    """
    size = read_size(item.path)
    shown = frames if frames > 1 and is_clip(item.path) else 1
    mask = _mask(item, size, masks.source, is_still=shown == 1)
    return [
        Picture(item, size, bucket, mask, kind, weight * item.weight, shown)
        for bucket in buckets.places(size)
    ]


def _mask(item: Item, size: Size, source: str, *, is_still: bool) -> Path | None:
    if item.mask is not None and source in ("files", "any"):
        (width, height), (mask_width, mask_height) = size, read_size(item.mask)
        # A mask may be smaller than its picture; its shape may differ by what rounding its sides makes, a pixel.
        if abs(mask_width * height - mask_height * width) > max(width, height):
            raise DataError(
                "mask_shape", f"mask {item.mask.name!r} has another shape than picture {item.path.name!r}: "
                f"{mask_width} x {mask_height} for {width} x {height}",
                hint="Draw the mask on the whole picture, and save it in the same or a smaller size.",
            )  # fmt: skip
        return item.mask
    # What is transparent in a clip differs from frame to frame.
    own = is_still and source in ("alpha", "any") and has_transparency(item.path)
    return item.path if own else None
