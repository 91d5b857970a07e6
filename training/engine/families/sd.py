"""Stable Diffusion 1.x and 2.x: CLIP, UNet2DConditionModel, AutoencoderKL; eps or v by the scheduler's config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.export.table import ExportTable
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.families.unets import (
    ATTENTION,
    CLIP_ATTENTION,
    CLIP_MLP,
    CONVOLUTIONS,
    MLP,
    diffusers_place,
)
from training.engine.testing import tiny


class StableDiffusion(ModelFamily):
    """Train Stable Diffusion 1.x and 2.x and every model of their architecture."""

    name = "sd"
    title = "Stable Diffusion 1.x / 2.x"
    pipelines = ("StableDiffusionPipeline",)
    denoiser = "unet"
    trainable_encoders = ("text_encoder",)
    text_dtype = torch.float32
    divisor = 8
    presets = {
        "attn": {"denoiser": ATTENTION, "text_encoder": CLIP_ATTENTION},
        "attn-mlp": {"denoiser": ATTENTION + MLP, "text_encoder": CLIP_ATTENTION + CLIP_MLP},
        "all": {"denoiser": ATTENTION + MLP + CONVOLUTIONS, "text_encoder": CLIP_ATTENTION + CLIP_MLP},
    }
    exports = {
        "kohya": ExportTable("kohya", {"denoiser": "lora_unet", "text_encoder": "lora_te"}, diffusers_place)
    }
    conversions = (
        ExportTable("peft", {"denoiser": "unet", "text_encoder": "text_encoder"}, diffusers_place),
    )

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return the last hidden state (L, D) of each prompt, padded to the model's length."""
        tokenizer, encoder = parts.components["tokenizer"], parts.components["text_encoder"]
        tokens = tokenizer(
            list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        device = next(encoder.parameters()).device
        hidden = encoder(tokens.input_ids.to(device)).last_hidden_state
        return [{"hidden": row} for row in hidden]

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the UNet with whole timesteps."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        out: Tensor = parts.denoiser(noised.to(dtype), t, text["hidden"].to(dtype), return_dict=False)[0]
        return out

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Tell 1.x from 2.x by the width of the text embedding, v from eps by the scheduler."""
        config: Any = parts.denoiser.config
        second = config.cross_attention_dim == 1024
        v = parts.process.objective == "v"
        architecture = (
            "stable-diffusion-v1" if not second else f"stable-diffusion-v2-{'768-v' if v else '512'}"
        )
        return {
            "ss_v2": str(second),
            "ss_base_model_version": ("sd_v2_v" if v else "sd_v2") if second else "sd_v1",
            "modelspec.architecture": f"{architecture}/lora",
            "modelspec.implementation": "diffusers",
            "modelspec.prediction_type": "v" if v else "epsilon",
        }

    def tiny(self, prediction_type: str = "epsilon") -> Parts:
        """Build a random model of 0.2 M parameters for 32-pixel pictures."""
        make: Any = diffusers.UNet2DConditionModel
        with tiny.seeded():
            components = {
                "unet": make(
                    sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
                    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                    norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
                ),
                "vae": tiny.kl_autoencoder(),
                "text_encoder": tiny.clip_text_encoder(),
                "tokenizer": tiny.clip_tokenizer(),
            }  # fmt: skip
        parts = self._parts(components, tiny.ddim_scheduler(prediction_type), None)
        parts.freeze()
        return parts
