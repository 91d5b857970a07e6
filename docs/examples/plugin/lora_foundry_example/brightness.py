"""A captioner that says how bright a picture is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageStat


class Brightness:
    """Describe pictures as dark, medium or bright. No model is needed."""

    at_once = 16

    def load(self, folder: Path | None, *, device: torch.device, longest: int) -> None:
        """Have nothing to load."""

    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Return one word for each picture, from the mean of its grey levels."""
        levels = [ImageStat.Stat(picture.convert("L")).mean[0] for picture in pictures]
        return ["dark" if level < 85 else "bright" if level > 170 else "medium" for level in levels]
