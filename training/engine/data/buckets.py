"""Aspect-ratio buckets: every batch has one shape, and no picture loses much by cropping."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""Width and height in pixels."""


def bucket_sizes(resolution: int, divisor: int) -> list[Size]:
    """List the sizes of about ``resolution`` squared pixels, from 1:3 to 3:1, in steps of an eighth.

    Both sides are multiples of ``divisor`` and the area never exceeds that of the square.
    """
    step = max(divisor, resolution // 8 // divisor * divisor)
    square = max(divisor, resolution // divisor * divisor)
    sizes = {(square, square)}
    width = step
    while width <= 2 * resolution:
        height = resolution * resolution // width // step * step
        if height and max(width, height) <= 3 * min(width, height):
            sizes.add((width, height))
            sizes.add((height, width))
        width += step
    return sorted(sizes)


def choose_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """Return the bucket whose shape is nearest to a picture's, the larger one of equals."""
    aspect = math.log(size[0] / size[1])
    return min(buckets, key=lambda b: (round(abs(math.log(b[0] / b[1]) - aspect), 9), -b[0] * b[1], b))
