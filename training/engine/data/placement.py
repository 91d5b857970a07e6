"""A picture in a bucket: what of it is shown there."""

from __future__ import annotations

import dataclasses

from training.engine.data.buckets import Buckets, Size
from training.engine.data.manifest import Item
from training.engine.data.pictures import read_size
from training.engine.families.base import View


@dataclasses.dataclass(frozen=True)
class Picture:
    """Be one picture in one bucket; with several resolutions, a picture of the set is several of these."""

    item: Item
    original: Size
    bucket: Size

    @property
    def view(self) -> View:
        """Return what is left of it in its bucket: scaled to cover it, cropped at the centre."""
        (width, height), (bucket_width, bucket_height) = self.original, self.bucket
        scale = max(bucket_width / width, bucket_height / height)
        left, top = round(width * scale) - bucket_width, round(height * scale) - bucket_height
        return View(self.original, (max(0, left) // 2, max(0, top) // 2), self.bucket)


def places(item: Item, buckets: Buckets) -> list[Picture]:
    """Return a picture in each bucket it belongs to, the largest first; raise DataError if it cannot be read."""
    size = read_size(item.path)
    return [Picture(item, size, bucket) for bucket in buckets.places(size)]
