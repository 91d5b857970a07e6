"""Decode pictures with PIL, of videos the first frame, and bring them to the size of their bucket."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from training.engine.data.videos import first_frame, is_video
from training.engine.errors import DataError

Corner = tuple[int, int]
"""Left and top of a crop, in pixels of the scaled picture."""
MAX_PIXELS = 200_000_000
"""A larger picture is refused before it is decoded."""
# What Pillow's readers of the usual formats raise for damaged files: not all of them check what they index.
_DAMAGE = (
    OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, SyntaxError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


def read_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as shown, turned as the file says; raise DataError for an unreadable file."""
    if is_video(path):
        return first_frame(path).size
    with reading(path), Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    if width * height > MAX_PIXELS:
        raise DataError("image_too_large", f"picture {path.name!r} has {width} x {height} pixels")
    return (height, width) if turned else (width, height)


def load_pixels(
    path: Path, width: int, height: int, *, flip: bool = False, corner: Corner | None = None
) -> Tensor:
    """Return a picture as (3, height, width) in [-1, 1]: scaled to cover the size, cropped at the centre or ``corner``.

    Transparent parts become white. Raise DataError for a file that cannot be decoded.
    """
    image = cover(load_image(path), (width, height), flip, corner, Image.Resampling.LANCZOS)
    array = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def load_mask(
    path: Path, width: int, height: int, *, original: tuple[int, int], flip: bool = False,
    corner: Corner | None = None, own_alpha: bool = False,
) -> Tensor:  # fmt: skip
    """Return a mask as (1, height, width) in [0, 1], cut as ``load_pixels`` cuts its picture of size ``original``.

    It is the file's transparency where there is any (``own_alpha``: always), else its brightness. Raise DataError for
    a file that cannot be decoded.
    """
    with reading(path), Image.open(path) as opened:
        image = _of_8_bits(ImageOps.exif_transpose(opened))
        alpha = image.convert("RGBA").getchannel("A")
        mask = alpha if own_alpha or alpha.getextrema() != (255, 255) else image.convert("RGB").convert("L")
    if mask.size != original:
        mask = mask.resize(original, Image.Resampling.BILINEAR)
    # Unlike the picture's, this filter makes no value that was not between its neighbours.
    mask = cover(mask, (width, height), flip, corner, Image.Resampling.BILINEAR)
    array = np.asarray(mask, dtype=np.float32)
    return torch.from_numpy(array / 255.0)[None]


def cover(
    image: Image.Image, size: tuple[int, int], flip: bool, corner: Corner | None, resampling: Image.Resampling
) -> Image.Image:
    """Mirror, then scale to cover a size and crop: places of the crop are those of what is seen."""
    if flip:
        image = ImageOps.mirror(image)
    if corner is None:
        return ImageOps.fit(image, size, resampling)
    scale = max(size[0] / image.width, size[1] / image.height)
    width, height = min(size[0] / scale, image.width), min(size[1] / scale, image.height)
    # Sides are rounded once they are scaled, so the last corner may lie half a pixel too far.
    left, top = min(corner[0] / scale, image.width - width), min(corner[1] / scale, image.height - height)
    return image.resize(size, resampling, box=(left, top, left + width, top + height))


def has_transparency(path: Path) -> bool:
    """Tell from a file's header whether it may have transparent parts."""
    if is_video(path):
        return False
    with reading(path), Image.open(path) as image:
        return _is_transparent(image)


def load_image(path: Path) -> Image.Image:
    """Decode a picture to RGB, upright; 16-bit and floating-point grey is scaled to 0..255."""
    return _decode(path)


def load_small(path: Path, edge: int) -> Image.Image:
    """Decode a picture to RGB, upright, with sides of ``edge`` or a little more where it is larger.

    A JPEG is decoded at an eighth of its size where that suffices: a quarter of the time, 1/64 of the memory.
    """
    image = _decode(path, draft=(2 * edge, 2 * edge))
    factor = max(1, min(image.size) // (2 * edge))
    return image if factor == 1 else image.reduce(factor)


def _decode(path: Path, *, draft: tuple[int, int] | None = None) -> Image.Image:
    if is_video(path):
        return first_frame(path)
    with reading(path), Image.open(path) as opened:
        if draft is not None:
            opened.draft(None, draft)
        return flat(ImageOps.exif_transpose(opened))


def flat(image: Image.Image) -> Image.Image:
    """Turn a picture of any mode into RGB, its transparent parts white."""
    image = _of_8_bits(image)
    if _is_transparent(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every way in which reading a file can fail into a DataError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except _DAMAGE as error:
        raise _unreadable(path) from error


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _of_8_bits(image: Image.Image) -> Image.Image:
    return _to_8_bit(image) if image.mode in ("I", "F") or image.mode.startswith("I;16") else image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits linearly from the full range of its depth, as the platform's intake does."""
    numbers = image.convert("F")
    highest = float(numbers.getextrema()[1])  # type: ignore[arg-type]
    if image.mode == "F":
        full = 1.0 if highest <= 1.0 else 255.0 if highest <= 255.0 else 65_535.0
    else:
        full = 65_535.0 if highest <= 65_535.0 else highest
    return numbers.point(lambda value: value * (255.0 / full) + 0.0).convert("L")


def to_image(pixels: Tensor) -> Image.Image:
    """Turn (3, H, W) in [-1, 1] into a picture."""
    array = ((pixels.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).cpu().numpy())


def _unreadable(path: Path) -> DataError:
    return DataError(
        "image_unreadable", f"picture {path.name!r} cannot be read",
        hint="The file is damaged or no picture; remove it or upload it again.",
    )  # fmt: skip
