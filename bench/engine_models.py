"""The base models that `bench.engine` measures with: the demo model, and Stable Diffusion 1.5 of random weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.engine.families.base import Parts

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Model:
    """Be one base model: the sizes it is measured at, and how it comes to memory (``None``: from its folder)."""

    title: str
    recipe: dict[str, Any]
    batch: int
    resolution: int
    steps: int
    """Optimizer steps in a block of the comparison."""
    blocks: int
    repeats: int
    """Of a checkpoint, a sample and a first step."""
    parts: Callable[[], Parts] | None = None


def full_width() -> Parts:
    """Build Stable Diffusion 1.5 at its full width, 1 066 M parameters in fp32, from random weights.

    Sizes: the config.json files of stable-diffusion-v1-5. Its speed does not depend on what the weights are.
    """
    import diffusers
    import transformers

    from training.engine.families.sd import StableDiffusion
    from training.engine.testing import tiny

    D: Any = diffusers
    T: Any = transformers
    with tiny.seeded():
        tokenizer = tiny.clip_tokenizer()
        tokenizer.model_max_length = 77
        components = {
            "unet": D.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
            "vae": D.AutoencoderKL(
                block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
            ),
            "text_encoder": T.CLIPTextModel(T.CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                max_position_embeddings=77, vocab_size=49408,
            )),
            "tokenizer": tokenizer,
        }  # fmt: skip
    parts = dataclasses.replace(StableDiffusion().tiny(), components=components)
    parts.freeze()
    return parts


MODELS = {
    "demo": Model(
        "the demo model", {"base_model": {"path": str(ROOT / "demo" / "base")}, "method": {"targets": "all"}},
        batch=8, resolution=64, steps=5, blocks=16, repeats=5,
    ),
    "sd15": Model(
        "Stable Diffusion 1.5 at full width, random weights",
        {"base_model": {"path": "unsaved", "family": "sd"}, "method": {"targets": "attn-mlp"}},
        batch=2, resolution=128, steps=1, blocks=10, repeats=2, parts=full_width,
    ),
}  # fmt: skip
