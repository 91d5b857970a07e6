"""The file of a new word: the rows of each text encoder, by the names that A1111, Forge, ComfyUI and diffusers read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from training.engine.export.factors import VerificationError
from training.engine.families import folder as folders
from training.engine.families.base import ModelFamily, Parts
from training.engine.words import NewWord, known_word, tokenizer_of

KEYS = {"sd": {"text_encoder": "emb_params"}, "sdxl": {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}}
"""Family -> text encoder -> name of its rows in a file (A1111 modules/textual_inversion, ComfyUI sd1_clip.py)."""

# Rounding of one number, relative to the largest of a row.
TOLERANCE = {torch.float32: 0.0, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def word_shapes(path: Path) -> dict[str, tuple[int, int]]:
    """Return (rows, width) by name in a file that holds a word; empty for another file."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
    known = any(shapes.keys() == set(keys.values()) for keys in KEYS.values())
    return {name: (size[0], size[1]) for name, size in shapes.items() if known and len(size) == 2}


def read_word(path: Path, family: str) -> dict[str, Tensor]:
    """Read the rows of each text encoder of a family; raise VerificationError for anything odd."""
    try:
        content = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VerificationError("export_unreadable", f"{path.name} cannot be opened again") from error
    keys = KEYS.get(family, {})
    if content.keys() != set(keys.values()):
        raise VerificationError(
            "export_key", f"{path.name} is no word of {family}: {', '.join(sorted(content))}"
        )
    rows = {name: content[key] for name, key in keys.items()}
    if {each.ndim for each in rows.values()} != {2} or len({len(each) for each in rows.values()}) != 1:
        raise VerificationError(
            "export_key", f"{path.name}: the rows of the text encoders do not fit together"
        )
    if not all(bool(torch.isfinite(each).all()) for each in rows.values()):
        raise VerificationError("export_not_finite", f"{path.name} holds values that are not finite")
    return rows


def tensors(family: str, words: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors of the file, on the CPU."""
    return {KEYS[family][name]: rows.to("cpu", dtype).contiguous() for name, rows in words.items()}


def verify_word(
    path: Path, family: str, words: Mapping[str, Tensor], first: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Check that a file holds the trained rows, and that these are no longer the ``first`` ones."""
    read = read_word(path, family)
    for name, rows in words.items():
        trained = rows.cpu()
        same = read[name].shape == trained.shape
        if not same or (read[name].float() - trained).abs().max() > _rounding(read[name], trained):
            raise VerificationError(
                "export_differs", f"{path.name}: the rows of the {name} are not the trained ones"
            )
    if all(torch.equal(rows.cpu(), first[name]) for name, rows in words.items()):
        raise VerificationError(
            "export_empty", f"{path.name} changes nothing: the word is as it began",
            hint="Train for at least one step with a learning rate above zero.",
        )  # fmt: skip
    return read


def _rounding(read: Tensor, trained: Tensor) -> float:
    return TOLERANCE[read.dtype] * float(trained.abs().max())


@torch.no_grad()
def verify_reading(
    read: Mapping[str, Tensor], family: ModelFamily, parts: Parts, word: NewWord, prompt: str
) -> float:
    """Encode a prompt with the file's word in fresh text encoders; return the relative error of the word's effect.

    Raise VerificationError when it is larger than rounding explains.
    """
    (trained,) = family.encode_text(parts, [prompt])
    with word.unsaid():
        (base,) = family.encode_text(parts, [prompt])
    fresh = _fresh_encoders(family, parts, list(read))
    with known_word(fresh, word.word, read):
        (reloaded,) = family.encode_text(fresh, [prompt])
    error, effect, size = (
        sum(float((one[key] - other[key]).norm() if other else one[key].norm()) for key in trained)
        for one, other in ((reloaded, trained), (trained, base), (base, None))
    )
    rounding = max(TOLERANCE[rows.dtype] for rows in read.values())
    if error > 10 * rounding * effect + 1e-5 * size:
        raise VerificationError(
            "export_differs", f"the word's effect is off by {error / max(effect, 1e-12):.1%}"
        )
    return error / max(effect, 1e-12)


def _fresh_encoders(family: ModelFamily, parts: Parts, encoders: list[str]) -> Parts:
    """Return the model with some text encoders and their tokenizers as they lie on the disk."""
    names = [each for name in encoders for each in (name, tokenizer_of(name))]
    if parts.folder is None:
        return dataclasses.replace(
            parts, components={**parts.components, **{name: family.tiny().components[name] for name in names}}
        )
    index, dtype = folders.read_index(parts.folder), family.text_dtype or torch.float32
    fresh: dict[str, Any] = {}
    for name in names:
        found = folders.load_component(folders.component_class(index, name), parts.folder / name, dtype)
        fresh[name] = found.to(parts.device).eval() if isinstance(found, nn.Module) else found
    return dataclasses.replace(parts, components={**parts.components, **fresh})
