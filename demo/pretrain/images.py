"""Gather the rendered icons into arrays: python images.py ICON_FOLDER OUT.npz

`concepts` (C, S, 64, 64, 3) uint8: each concept in each pretrained style (order: `style_names`).
`icons` (N, 64, 64, 4) and `edges` (N, 64, 64) uint8: every icon of the four colour sets, for the autoencoder only.
The high-contrast set and the styles held back for LoRA training enter neither array.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from styles import PRETRAINED, lines, plain

HERE = Path(__file__).parent
CONCEPTS: list[dict[str, str]] = json.loads((HERE / "concepts.json").read_text())
COLOUR_SETS = {"plain": "noto", "flat": "fluent-emoji-flat", "3d": "fluent-emoji"}
STYLE_NAMES = [*COLOUR_SETS, *PRETRAINED]


def small(picture: Image.Image, side: int = 64) -> np.ndarray:
    """Shrink to (side, side, channels) uint8."""
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def icon_of(folder: Path, icon_set: str, name: str) -> Image.Image:
    """Open one rendered icon as RGBA."""
    return Image.open(folder / icon_set / f"{name}.png").convert("RGBA")


def concept_pictures(folder: Path) -> np.ndarray:
    """Draw every concept in every pretrained style: (C, S, 64, 64, 3) uint8."""
    rows = []
    for concept in CONCEPTS:
        row = [small(plain(icon_of(folder, icon_set, concept["icon"]))) for icon_set in COLOUR_SETS.values()]
        noto = icon_of(folder, "noto", concept["icon"])
        row += [small(draw(noto)) for draw in PRETRAINED.values()]
        rows.append(np.stack(row))
    return np.stack(rows)


def main(folder: Path, out: Path) -> None:
    """Write the arrays."""
    icons, edges = [], []
    for icon_set in ("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji"):
        for file in sorted((folder / icon_set).glob("*.png")):
            icon = Image.open(file).convert("RGBA")
            icons.append(small(icon))
            edges.append(small(lines(icon, 1)))
    np.savez(
        out,
        concepts=concept_pictures(folder),
        style_names=np.array(STYLE_NAMES),
        icons=np.stack(icons),
        edges=np.stack(edges),
    )
    print(len(icons), "icons,", len(CONCEPTS), "concepts x", len(STYLE_NAMES), "styles")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
