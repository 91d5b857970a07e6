"""Decode pictures with PIL and bring them to the size of their bucket."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from training.engine.errors import DataError

MAX_PIXELS = 200_000_000
"""A larger picture is refused before it is decoded."""


def read_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as shown, EXIF rotation included; raise DataError for an unreadable file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error
    if width * height > MAX_PIXELS:
        raise DataError("image_too_large", f"picture {path.name!r} has {width} x {height} pixels")
    return (height, width) if turned else (width, height)


def load_pixels(path: Path, width: int, height: int, *, flip: bool = False) -> Tensor:
    """Return a picture as (3, height, width) in [-1, 1]: scaled to cover the size, cropped at the centre.

    Transparent parts become white. Raise DataError for a file that cannot be decoded.
    """
    image = load_image(path)
    if flip:
        image = ImageOps.mirror(image)
    image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    array = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def load_image(path: Path) -> Image.Image:
    """Decode a picture to RGB, upright."""
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, (255, 255, 255, 255))
                image = Image.alpha_composite(white, image)
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error


def to_image(pixels: Tensor) -> Image.Image:
    """Turn (3, H, W) in [-1, 1] into a picture."""
    array = ((pixels.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).cpu().numpy())


def _unreadable(path: Path) -> DataError:
    return DataError(
        "image_unreadable", f"picture {path.name!r} cannot be read",
        hint="The file is damaged or no picture; remove it or upload it again.",
    )  # fmt: skip
