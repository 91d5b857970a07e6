"""Sana 1.0 and 1.5: Gemma 2 with an instruction, an autoencoder that makes pictures 32 times smaller, linear attention.

Sana Sprint is another process (one or two steps, distilled) and is not trained here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.families import dits
from training.engine.families.base import BARE, ModelFamily, Parts, TextRow
from training.engine.testing import tiny

SanaPipeline: Any = diffusers.SanaPipeline
TOKENS = 300
"""Of the prompt, after the instruction, which is not shown to the transformer."""


class Sana(ModelFamily):
    """Train Sana."""

    name = "sana"
    title = "Sana"
    pipelines = ("SanaPipeline", "SanaPAGPipeline")
    divisor = 32
    guidance_default = 4.5
    presets = dits.presets(
        dits.ATTENTION,
        ("ff.conv_inverted", "ff.conv_point"),
        ("caption_projection.linear_1", "caption_projection.linear_2", "time_embed.linear"),
    )
    exports = {"peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return Gemma's last layer (L, 2304) for a prompt read after the instruction, and a mask of ones (L,).

        Empty and negative prompts stand without the instruction, as in the pipeline.
        """
        pipeline = parts.pipeline(SanaPipeline)
        instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
        device = next(parts.text_encoders["text_encoder"].parameters()).device

        def encode(texts: list[str], before: Sequence[str] | None) -> dict[str, TextRow]:
            if not texts:
                return {}
            hidden, mask, _, _ = pipeline.encode_prompt(
                [each.removeprefix(BARE) for each in texts], False, device=device, max_sequence_length=TOKENS,
                complex_human_instruction=before,
            )  # fmt: skip
            return dict(zip(texts, dits.unpadded(hidden, mask), strict=True))

        bare = [each for each in prompts if not each or each.startswith(BARE)]
        rows = encode(bare, None) | encode([each for each in prompts if each not in bare], instruction)
        return [rows[each] for each in prompts]

    def negative(self, prompt: str) -> str:
        """Mark it as a text without the instruction."""
        return BARE + prompt if prompt else ""

    def encode_image(self, parts: Parts, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, H, W) into latents (B, 32, H / 32, W / 32); this autoencoder has no distribution."""
        with torch.no_grad():
            return self.normalise(parts, parts.vae.encode(pixels).latent)  # type: ignore[operator]

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return (C, H / f, W / f) with f = 32, from the number of the encoder's levels."""
        config: Any = parts.vae.config
        factor = 2 ** (len(config.encoder_block_out_channels) - 1)
        return (config.latent_channels, height // factor, width // factor)

    def tokens(self, latent_shape: Sequence[int]) -> int:
        """Count each place of the latents as a token."""
        return latent_shape[-2] * latent_shape[-1]

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the transformer with timesteps 0 to 1000; it predicts noise - x0."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        config: Any = parts.denoiser.config
        out: Tensor = parts.denoiser(
            noised.to(dtype), encoder_hidden_states=text["hidden"].to(dtype), encoder_attention_mask=text["mask"],
            timestep=dits.TIMESTEPS * t * config.timestep_scale, return_dict=False,
        )[0]  # fmt: skip
        return out

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name Sana; ModelSpec has no word of its own for it."""
        return {
            "ss_base_model_version": "sana",
            "modelspec.architecture": "sana/lora",
            "modelspec.implementation": "https://github.com/NVlabs/Sana",
        }

    def tiny(self) -> Parts:
        """Build a random model of two blocks for 32-pixel pictures, made four times smaller."""
        make: Any = diffusers.SanaTransformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    sample_size=8, in_channels=8, out_channels=8, num_layers=2, num_attention_heads=2,
                    attention_head_dim=8, num_cross_attention_heads=2, cross_attention_head_dim=8,
                    cross_attention_dim=16, caption_channels=16, mlp_ratio=2.0,
                ),
                "vae": tiny.dc_autoencoder(8),
                "text_encoder": tiny.gemma2_model(layers=1), "tokenizer": tiny.gemma_tokenizer(),
            }  # fmt: skip
        parts = self._parts(components, tiny.multistep_scheduler(3.0), None)
        parts.freeze()
        return parts
