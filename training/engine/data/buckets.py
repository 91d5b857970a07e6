"""Aspect-ratio buckets: every batch has one shape, and no picture loses much by cropping.

With several resolutions a picture has a place in one bucket of each that it is large enough for, and an epoch shows it
once at each of them: none of its places is left out and none comes twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.engine.data_sections import BucketSpec

Size = tuple[int, int]
"""Width and height in pixels."""

# A bucket of a small picture's own size cuts off less than this, whatever the resolution.
_FINE_STEP = 64


def bucket_sizes(resolution: int, divisor: int, limits: BucketSpec | None = None) -> list[Size]:
    """List the sizes of about ``resolution`` squared pixels, from 1:3 to 3:1, in steps of an eighth, or by ``limits``.

    Both sides are multiples of ``divisor`` and the area never exceeds that of the square, which is always one.
    """
    limits = limits or BucketSpec()
    step = bucket_step(resolution, divisor, limits)
    square = max(divisor, resolution // divisor * divisor)
    shortest, longest = limits.smallest_side or 0, limits.largest_side or math.inf
    sizes = {(square, square)}
    width = step
    while width <= math.ceil(math.sqrt(limits.aspect_limit)) * resolution:
        height = resolution * resolution // width // step * step
        short, long = min(width, height), max(width, height)
        if short and long <= limits.aspect_limit * short and shortest <= short and long <= longest:
            sizes.add((width, height))
            sizes.add((height, width))
        width += step
    return sorted(sizes)


def bucket_step(resolution: int, divisor: int, limits: BucketSpec) -> int:
    """Return what the sides of buckets are multiples of: about what is asked for, and a multiple of ``divisor``."""
    wanted = resolution // 8 if limits.step is None else limits.step
    return max(divisor, wanted // divisor * divisor)


def choose_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """Return the bucket whose shape is nearest to a picture's, the larger one of equals."""
    aspect = math.log(size[0] / size[1])
    return min(buckets, key=lambda b: (round(abs(math.log(b[0] / b[1]) - aspect), 9), -b[0] * b[1], b))


def enlargement(size: Size, bucket: Size) -> float:
    """Return by how much a picture is enlarged to cover a bucket; below 1 it is reduced."""
    return max(bucket[0] / size[0], bucket[1] / size[1])


class Buckets:
    """Know the buckets of every resolution and where a picture belongs."""

    def __init__(self, resolutions: Sequence[int], divisor: int, limits: BucketSpec) -> None:
        """Make the buckets of ``resolutions``, the largest of which comes first."""
        self._limits = limits
        self._divisor = divisor
        self._own_step = min(
            bucket_step(resolutions[-1], divisor, limits), max(divisor, _FINE_STEP // divisor * divisor)
        )
        self._sizes = [bucket_sizes(resolution, divisor, limits) for resolution in resolutions]

    def places(self, size: Size) -> list[Size]:
        """Return a bucket for each resolution that a picture is large enough for, the largest first; at least one."""
        nearest = [choose_bucket(size, sizes) for sizes in self._sizes]
        fitting = [bucket for bucket in nearest if enlargement(size, bucket) <= self._limits.enlarge]
        return list(dict.fromkeys(fitting)) or [self._small(size, nearest[-1])]

    def place(self, size: Size) -> Size:
        """Return the largest bucket that a picture is large enough for."""
        return self.places(size)[0]

    def _small(self, size: Size, bucket: Size) -> Size:
        """Return where a picture belongs that is too small for its bucket at every resolution."""
        if self._limits.small_pictures == "enlarge":
            return bucket
        scale = enlargement(size, bucket)
        width, height = (
            max(self._divisor, int(side / scale) // self._own_step * self._own_step) for side in bucket
        )
        return bucket if min(width, height) < (self._limits.smallest_side or 0) else (width, height)
