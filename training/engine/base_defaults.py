"""What a recipe file need not say because its base model's folder does: the family, and the size it was made for.

Nothing here imports torch: the folder's JSON files are enough.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.engine.profiles import profile_of
from training.engine.spec import FIELDS

PIPELINES = {
    "ChromaPipeline": "chroma",
    "Flux2KleinPipeline": "flux2-klein",
    "Flux2Pipeline": "flux2",
    "FluxPipeline": "flux",
    "LTXConditionPipeline": "ltx",
    "LTXPipeline": "ltx",
    "Lumina2Pipeline": "lumina2",
    "Lumina2Text2ImgPipeline": "lumina2",
    "PixArtAlphaPipeline": "pixart",
    "PixArtSigmaPipeline": "pixart",
    "QwenImagePipeline": "qwen-image",
    "SanaPAGPipeline": "sana",
    "SanaPipeline": "sana",
    "StableDiffusion3Pipeline": "sd3",
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "WanPipeline": "wan",
    "ZImagePipeline": "z-image",
}
"""Family by the pipeline class of a folder's index, of our own families; a test compares it with the registry."""

_BLOCKS = ("block_out_channels", "encoder_block_out_channels")


def fill_in(data: Any, folder: Path) -> None:
    """Add to a recipe in sections the family and the resolution of its base model, where it says neither.

    Nothing is added for what is no folder in diffusers layout below ``folder``: a checkpoint, a name on the hub.
    """
    base = data.get("base_model") if isinstance(data, dict) else None
    path = base.get("path") if isinstance(base, dict) else None
    index = _json(folder / path / "model_index.json") if isinstance(path, str) else {}
    if not index or not isinstance(base, dict):
        return
    family = PIPELINES.get(str(index.get("_class_name")))
    if family is not None:
        base.setdefault("family", family)
    training = data.setdefault("training", {})
    if isinstance(training, dict) and isinstance(base.get("family"), str):
        training.setdefault("resolution", native_resolution(folder / str(path), base["family"]))


def native_resolution(folder: Path, family: str) -> int:
    """Return the side in pixels of the square pictures that a base model was made for.

    From its denoiser's ``sample_size``, in latents, where it has one; else what is usual for the family.
    """
    config = _json(folder / "unet" / "config.json") or _json(folder / "transformer" / "config.json")
    vae = _json(folder / "vae" / "config.json")
    size = config.get("sample_size")
    levels = next((len(vae[name]) for name in _BLOCKS if isinstance(vae.get(name), list)), 0)
    limits = FIELDS["/training/resolution"]
    if isinstance(size, int) and levels:
        pixels: int = size << (levels - 1)  # each level of the VAE but the first halves the sides
        if (limits.minimum or 0) <= pixels <= (limits.maximum or pixels):
            return pixels
    return profile_of(family).resolution


def _json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds, nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
