"""Read a LoRA file that anyone may have made, and say whose it is."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from training.engine.errors import DataError
from training.engine.export.factors import VerificationError, read_factors
from training.engine.export.table import Layout
from training.engine.export.weights_file import read_metadata
from training.engine.export.words import word_shapes
from training.engine.methods.changes import Change

READABLE = ("F16", "BF16", "F32", "F64")
PREFIXES: Mapping[str, Layout] = {
    "lora_unet_": "kohya", "lora_te": "kohya", "transformer.": "peft", "unet.": "peft", "text_encoder": "peft",
    "diffusion_model.": "comfy",
}  # fmt: skip
"""How the names of each layout begin."""
METADATA = {
    "sdv": "sd", "stablediffusionv": "sd", "sdxl": "sdxl", "stablediffusionxl": "sdxl", "sd3": "sd3",
    "stablediffusion3": "sd3", "flux1": "flux", "chroma": "chroma", "flux2klein": "flux2-klein", "flux2": "flux2",
    "lumina": "lumina2", "ltx": "ltx", "pixart": "pixart", "qwen": "qwen-image", "sana": "sana", "wan": "wan",
    "zimage": "z-image",
}  # fmt: skip
"""How ``ss_base_model_version`` and ``modelspec.architecture`` begin, in small letters and digits alone, by family."""
NAMES = (
    ("flux2", r"to_qkv_mlp_proj|transformer_blocks\.\d+\.ff(_context)?\.linear_in"),
    ("flux", r"single_(transformer_)?blocks|double_blocks"),
    ("sdxl", r"lora_te2_|text_encoder_2\.|lora_unet_(input|output|middle)_blocks?_|transformer_blocks[._][2-9]"
             r".*(down_blocks|up_blocks|mid_block)|(down_blocks|up_blocks|mid_block).*transformer_blocks[._][1-9]"),
    ("sd", r"(down_blocks|up_blocks|mid_block)[._]|lora_te_"),
    ("qwen-image", r"(img|txt)_mlp"),
    ("wan", r"blocks\.\d+\.(self_attn|cross_attn|ffn\.\d)|(^|\.)blocks\.\d+\.(attn\d|ffn\.net)"),
    ("lumina2", r"context_refiner.*(attn\.to_q|attention\.qkv)?.*norm1\.linear|attention\.qkv|feed_forward\.linear_\d"),
    ("z-image", r"layers\.\d+\.(attention\.to_|feed_forward\.w\d)"),
    ("sana", r"conv_inverted|conv_point"),
    ("sd3", r"attn2?\.add_[qkv]_proj"),
)  # fmt: skip
"""What is found in the names of one family alone, tried in this order.

FLUX.1's are those of Chroma too, and of FLUX.2's native files.
"""


@dataclasses.dataclass(frozen=True)
class LoraFile:
    """Be the content of a file: the change of each entry by stem."""

    path: Path
    changes: Mapping[str, Change]
    metadata: Mapping[str, str]
    layout: Layout

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format of its factors."""
        return next(iter(self.changes.values())).dtype


def read(path: Path) -> LoraFile:
    """Read all of a file; raise DataError naming what is odd in it."""
    header(path)
    if word_shapes(path):
        raise DataError(
            "lora_is_word", f"{path.name} is a word of textual inversion, which changes no layer",
            hint="Use it as it is; only `lora-train inspect` works on words.",
        )  # fmt: skip
    try:
        changes = read_factors(path)
    except VerificationError as error:
        raise DataError(
            error.code.replace("export", "lora"), error.message,
            hint=f"`lora-train inspect {path}` lists all that is in the file.",
        ) from error  # fmt: skip
    layouts = {layout_of(stem) for stem in changes}
    if len(layouts) > 1 or None in layouts:
        odd = next((stem for stem in changes if layout_of(stem) is None), None)
        several = ", ".join(sorted(each for each in layouts if each))
        what = (
            f"names of several layouts: {several}" if odd is None else f"a name of no known layout, {odd!r}"
        )
        raise DataError("lora_key", f"{path.name} holds {what}")
    return LoraFile(path, changes, read_metadata(path), layout_of(next(iter(changes))) or "peft")


def header(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Return number format and shape of each tensor; raise DataError for what is not a readable safetensors file."""
    if not path.is_file():
        raise DataError("lora_missing", f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
            found = {key: (str(each.get_dtype()), list(each.get_shape())) for key, each in slices.items()}
    except (OSError, SafetensorError) as error:
        raise DataError(
            "lora_unreadable", f"{path.name} is not a whole safetensors file: {error}",
            hint="Download it again, or give another file.",
        ) from error  # fmt: skip
    if not found:
        raise DataError("lora_empty", f"{path.name} holds no tensors")
    odd = next((key for key, (dtype, _) in found.items() if dtype not in READABLE), None)
    if odd is not None:
        raise DataError(
            "lora_dtype", f"{path.name}: {odd!r} is {found[odd][0]}, which is not read",
            hint=f"Number formats that are read: {', '.join(READABLE)}.",
        )  # fmt: skip
    return found


def layout_of(stem: str) -> Layout | None:
    """Return the layout that an entry's name is of."""
    return next((layout for prefix, layout in PREFIXES.items() if stem.startswith(prefix)), None)


def family_by_metadata(metadata: Mapping[str, str]) -> str | None:
    """Return the family that a file says it is for."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        said = re.sub(r"[^a-z0-9]", "", metadata.get(key, "").lower())
        if found := next((family for start, family in METADATA.items() if said.startswith(start)), None):
            return found
    return None


def family_by_names(stems: Iterable[str]) -> str | None:
    """Guess the family from the names of the entries; None where several have such names."""
    joined = "\n".join(stems)
    return next((family for family, pattern in NAMES if re.search(pattern, joined)), None)


def trigger_words(metadata: Mapping[str, str]) -> list[str]:
    """Return the words that call a LoRA, as far as it says: its trigger phrase, and its commonest tags."""
    words = [metadata.get("modelspec.trigger_phrase", "")]
    try:
        counts = list(json.loads(metadata.get("ss_tag_frequency", "{}")).values())
        tags = {tag.strip(): int(number) for each in counts for tag, number in each.items()}
    except (AttributeError, ValueError, TypeError):
        tags = {}
    words += sorted(tags, key=lambda tag: -tags[tag])[:5]
    return list(dict.fromkeys(word for word in words if word))
