"""Write the demo style sets: python style_sets.py ICON_FOLDER DEMO_FOLDER

styles/<key>/ gets 20 pictures with captions, heldout/<key>/ eight of other concepts, and prompts.json the concepts.
No concept of `KEPT_OUT` is in any style set, so a picture of one shows what the LoRA learnt, not what it copied.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import styles
from images import CONCEPTS, icon_of
from PIL import Image

KEPT_OUT = (
    "panda", "cat", "frog", "lion", "owl", "apple", "banana", "hamburger",
    "heart", "rocket", "umbrella", "guitar", "crown", "ghost", "sunflower", "house",
)  # fmt: skip
HELD_OUT = ("cat", "panda", "lion", "apple", "hamburger", "rocket", "guitar", "house")
TRAINED = (
    "dog", "fox", "tiger", "koala", "rabbit", "mouse", "pig", "cow", "monkey", "penguin", "butterfly",
    "strawberry", "cherries", "pizza", "doughnut", "birthday cake", "mushroom", "balloon", "robot", "tulip",
)  # fmt: skip
NOTO = ("Noto Emoji by Google, icon set @iconify-json/noto 1.2.9", "Apache-2.0")
FLUENT = (
    "Fluent Emoji high contrast by Microsoft, icon set @iconify-json/fluent-emoji-high-contrast 1.2.6",
    "MIT",
)


def contrast(folder: Path, name: str) -> Image.Image:
    """Lay a Fluent high-contrast icon on white."""
    return styles.plain(icon_of(folder, "fluent-emoji-high-contrast", name))


def from_noto(draw: styles.Drawing) -> Callable[[Path, str], Image.Image]:
    """Draw a Noto icon in a procedural style."""
    return lambda folder, name: draw(icon_of(folder, "noto", name))


SETS: dict[str, tuple[str, Callable[[Path, str], Image.Image], tuple[str, str], str]] = {
    "ink": ("Ink", from_noto(styles.ink), NOTO, "Bold black ink on white paper, nothing else."),
    "contrast": (
        "High contrast",
        contrast,
        FLUENT,
        "Other drawings of the same things in black on white: harder.",
    ),
    "neon": ("Neon", from_noto(styles.neon), NOTO, "Glowing tubes in the night, cyan above, magenta below."),
    "blueprint": ("Blueprint", from_noto(styles.blueprint), NOTO, "White lines on blue paper."),
    "gameboy": ("Pixel handheld", from_noto(styles.gameboy), NOTO, "Coarse pixels in four greens."),
    "pastel": (
        "Pastel sticker",
        from_noto(styles.pastel),
        NOTO,
        "Washed colours, a white rim and a pink page.",
    ),
}


def write_pictures(folder: Path, out: Path, key: str, names: tuple[str, ...]) -> None:
    """Write 128 px pictures NAME.png and captions NAME.txt, replacing what was there."""
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*.png"), *out.glob("*.txt")]:
        old.unlink()
    icons = {concept["en"]: concept["icon"] for concept in CONCEPTS}
    for name in names:
        article = "" if name.endswith("ies") else ("an " if name[0] in "aeiou" else "a ")
        stem = name.replace(" ", "_")
        SETS[key][1](folder, icons[name]).save(out / f"{stem}.png", optimize=True)
        (out / f"{stem}.txt").write_text(f"{article}{name}, {key} style\n")


def main(folder: Path, demo: Path, keys: list[str]) -> None:
    """Write the chosen sets; keep the `recommended` settings and measurements an existing style.json has."""
    for key in keys:
        title, _, (source, licence), description = SETS[key]
        write_pictures(folder, demo / "styles" / key, key, TRAINED)
        write_pictures(folder, demo / "heldout" / key, key, HELD_OUT)
        file = demo / "styles" / key / "style.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        known |= {
            "key": key,
            "title": title,
            "description": description,
            "trigger": f"{key} style",
            "licence": licence,
            "source": source,
            "pictures": len(TRAINED),
            "prompts": [f"{'an' if name[0] in 'aeiou' else 'a'} {name}, {key} style" for name in KEPT_OUT],
        }
        file.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    offered = {
        "first": list(KEPT_OUT),
        "concepts": [{k: c[k] for k in ("en", "zh")} for c in CONCEPTS],
        "styles": ["flat", "night", "sketch", "violet"],
        "template": "a {concept}, {style} style",
    }
    (demo / "prompts.json").write_text(json.dumps(offered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(SETS))
