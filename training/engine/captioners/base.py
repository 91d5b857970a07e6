"""The contract of a captioner. A plugin names its class in the entry-point group ``lora_foundry.captioners``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image


class Captioner(Protocol):
    """Find words for pictures. The same pictures get the same words every time, and nothing is downloaded."""

    at_once: int
    """How many pictures are described together; fewer once memory ran out."""

    def load(self, folder: Path | None, *, device: torch.device, longest: int) -> None:
        """Make ready to write captions of at most ``longest`` words.

        ``folder`` holds the model, in save_pretrained layout, and is None for one that works without. Raise
        ConfigurationError for a folder that cannot be used.
        """

    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Return one caption for each picture: RGB, upright, scaled down where it is very large."""
