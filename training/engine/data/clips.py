"""Read and write clips: animated GIF, PNG, WebP and AVIF with Pillow, and videos.

A clip is brought to a rate from its beginning on: for each moment the frame that is shown then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from training.engine.data.pictures import Corner, cover, flat, reading
from training.engine.data.videos import Shown, is_video, video_frames
from training.engine.errors import DataError

ANIMATED = {"GIF", "PNG", "WEBP", "AVIF"}
"""Formats of Pillow whose further pictures are frames; those of TIFF and of a phone's JPEG are not."""
UNTIMED = 0.1
"""Seconds that a frame is shown which says 0, as browsers do."""


def is_clip(path: Path) -> bool:
    """Tell whether a file has more than one frame, a video always; raise DataError for an unreadable one."""
    if is_video(path):
        return True
    with reading(path), Image.open(path) as image:
        return image.format in ANIMATED and getattr(image, "n_frames", 1) > 1


def load_clip(
    path: Path, width: int, height: int, *, frames: int, rate: float, flip: bool = False,
    corner: Corner | None = None,
) -> Tensor:  # fmt: skip
    """Return a clip's first ``frames`` at ``rate`` a second as (3, F, height, width) in [-1, 1].

    Each is cut as ``load_pixels`` cuts a picture. Raise DataError for a clip that is too short or cannot be read.
    """
    found: list[Image.Image] = []
    for image, until in _frames(path):
        # Shown until 1.0 s, at 16 a second: these are frames 0 to 15.
        more = min(frames, math.ceil(until * rate - 1e-6)) - len(found)
        if more > 0:
            found += [cover(image, (width, height), flip, corner, Image.Resampling.LANCZOS)] * more
        if len(found) == frames:
            break
    if len(found) < frames:
        raise DataError(
            "clip_short", f"clip {path.name!r} has {len(found)} frames at {rate:g} a second, not {frames}",
            hint="Use longer clips, or fewer frames per clip.",
        )  # fmt: skip
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in found]) / 127.5 - 1.0
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).contiguous()


def write_clip(path: Path, frames: Sequence[Image.Image], rate: float) -> None:
    """Write frames as an animated WebP that goes round."""
    frames[0].save(
        path, format="WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / rate), loop=0,
        quality=90,
    )  # fmt: skip


def _frames(path: Path) -> Iterator[Shown]:
    if is_video(path):
        yield from video_frames(path)
        return
    until = 0.0
    with reading(path), Image.open(path) as clip:
        for frame in ImageSequence.Iterator(clip):
            image = flat(frame)  # before its duration is asked for, which WebP knows only then
            until += float(frame.info.get("duration") or 0.0) / 1000.0 or UNTIMED
            yield image, until
