"""Read videos with PyAV, which is optional: the extra ``video`` brings it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from training.engine.errors import DataError

VIDEOS = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"}

Shown = tuple[Image.Image, float]
"""A frame, and until when it is shown, in seconds from the beginning."""


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video."""
    return path.suffix.lower() in VIDEOS


def video_frames(path: Path) -> Iterator[Shown]:
    """Yield a video's frames as RGB, upright; raise DataError if it cannot be read, or PyAV is missing."""
    av = _library(path)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            usual = 1.0 / float(stream.average_rate or 25)
            begin: float | None = None
            for frame in container.decode(stream):
                now = float(frame.time or 0.0)
                begin = now if begin is None else begin
                length = float(frame.duration * frame.time_base) if frame.duration else usual
                # Phones write the picture as the sensor has it, and by how much to turn it against the clock.
                yield frame.to_image().rotate(frame.rotation, expand=True), now - begin + length
    except (OSError, IndexError, ValueError, av.error.FFmpegError) as error:
        raise unreadable(path) from error


def first_frame(path: Path) -> Image.Image:
    """Return the first frame of a video; raise DataError as ``video_frames`` does."""
    for image, _ in video_frames(path):
        return image
    raise unreadable(path)


def unreadable(path: Path) -> DataError:
    """Return the error for a video that cannot be read."""
    return DataError(
        "video_unreadable", f"video {path.name!r} cannot be read",
        hint="The file is damaged or no video; remove it or upload it again.",
    )  # fmt: skip


def _library(path: Path) -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DataError(
            "video_extra_missing", f"video {path.name!r} needs PyAV, which is not installed here",
            hint="Install the extra 'video' on the worker (requirements/video.txt), or save it as animated WebP.",
        ) from error  # fmt: skip
