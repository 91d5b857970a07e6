"""Tags that can be read from the pixels alone: colours, light, contrast, format. No model is needed.

They say nothing of what is shown, and nothing that is not so. All limits were set by eye on photographs, drawings and
scans; a picture near a limit gets no tag rather than a doubtful one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

_EDGE = 64
# Upper ends of the hues in degrees; red comes round again.
_HUES = (
    (15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (200, "turquoise"), (255, "blue"), (290, "purple"),
    (340, "pink"), (361, "red"),
)  # fmt: skip
_NAMES = ("black", "grey", "white", "brown", *dict.fromkeys(name for _end, name in _HUES))
# A colour is named that covers a fifth of the picture; three at most.
_SHARE, _MOST = 0.2, 3
_GREYISH = 0.14  # difference of the largest and the smallest channel below which no hue is seen
_DARK, _LIGHT = 0.28, 0.75  # mean lightness; pure blue has 0.32, pure red 0.53
_FLAT, _STRONG = 0.25, 0.75  # between the darkest and the lightest twentieth


class Colours:
    """Describe pictures by what their pixels say, for example "blue, white, light, landscape format"."""

    at_once = 16

    def load(self, folder: Path | None, *, device: torch.device, longest: int) -> None:
        """Need nothing; tags come in order of weight, and those past ``longest`` words are left out."""
        self._longest = longest

    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Return the tags of each picture with commas between."""
        return [self._fitting(tags(picture)) for picture in pictures]

    def _fitting(self, found: list[str]) -> str:
        words, kept = 0, []
        for tag in found:
            words += len(tag.split())
            if words > self._longest:
                break
            kept.append(tag)
        return ", ".join(kept)


def tags(picture: Image.Image) -> list[str]:
    """Return what the pixels of an RGB picture say: colours first, then light, contrast and format."""
    small = picture.resize((_EDGE, _EDGE), Image.Resampling.BOX)
    rgb = np.asarray(small, dtype=np.float32).reshape(-1, 3) / 255.0  # (pixels, 3)
    return [*_colours(rgb), *_light(_lightness(rgb)), _format(*picture.size)]


def _lightness(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L* of sRGB pixels as 0..1, (pixels,): how light they look, https://en.wikipedia.org/wiki/CIELAB."""
    luminance = rgb**2.2 @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    return np.asarray(np.maximum(0.0, 1.16 * np.cbrt(luminance) - 0.16))


def _colours(rgb: np.ndarray) -> list[str]:
    highest, chroma = rgb.max(axis=1), rgb.max(axis=1) - rgb.min(axis=1)
    if np.quantile(chroma, 0.98) < _GREYISH / 2:
        return ["black and white"]
    names = _named(rgb, highest, chroma)
    shares = {name: float((names == number).mean()) for number, name in enumerate(_NAMES)}
    found = sorted((name for name in shares if shares[name] >= _SHARE), key=lambda name: -shares[name])
    return found[:_MOST] or ["colourful"]


def _named(rgb: np.ndarray, highest: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Return the place in ``_NAMES`` of each pixel's colour, (pixels,)."""
    red, green, blue = rgb.T
    safe = np.maximum(chroma, 1e-6)
    hue = np.select(
        [highest == red, highest == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    ) * 60  # fmt: skip
    ends = [end for end, _name in _HUES]
    places = np.array([_NAMES.index(name) for _end, name in _HUES])
    names = places[np.searchsorted(ends, hue, side="right")]
    # Dark orange is what people call brown.
    names[(hue >= 10) & (hue < 48) & (highest < 0.62)] = _NAMES.index("brown")
    grey = chroma < _GREYISH
    names[grey] = _NAMES.index("grey")
    names[grey & (highest > 0.85)] = _NAMES.index("white")
    names[highest < 0.18] = _NAMES.index("black")
    return np.asarray(names)


def _light(lightness: np.ndarray) -> list[str]:
    mean, span = float(lightness.mean()), float(np.subtract(*np.quantile(lightness, (0.95, 0.05))))
    found = []
    if mean < _DARK:
        found.append("dark")
    elif mean > _LIGHT:
        found.append("light")
    if span < _FLAT:
        found.append("low contrast")
    elif span > _STRONG:
        found.append("high contrast")
    return found


def _format(width: int, height: int) -> str:
    if width > 1.1 * height:
        return "landscape format"
    return "portrait format" if height > 1.1 * width else "square format"
