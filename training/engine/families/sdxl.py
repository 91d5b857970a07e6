"""Stable Diffusion XL: two CLIP encoders, size and crop told to the UNet; eps or v by the scheduler's config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.export.table import ExportTable
from training.engine.families.base import ModelFamily, Parts, TextRow, View
from training.engine.families.unets import (
    ATTENTION,
    CLIP_ATTENTION,
    CLIP_MLP,
    CONVOLUTIONS,
    MLP,
    diffusers_place,
    sgm_place,
)
from training.engine.testing import tiny

ENCODERS = ("text_encoder", "text_encoder_2")


class StableDiffusionXL(ModelFamily):
    """Train SDXL and every model of its architecture (Pony, Illustrious, NoobAI)."""

    name = "sdxl"
    title = "Stable Diffusion XL"
    pipelines = ("StableDiffusionXLPipeline",)
    denoiser = "unet"
    text_encoders = ENCODERS
    tokenizers = ("tokenizer", "tokenizer_2")
    trainable_encoders = ENCODERS
    text_dtype = torch.float32
    divisor = 8
    presets = {
        "attn": {"denoiser": ATTENTION, **dict.fromkeys(ENCODERS, CLIP_ATTENTION)},
        "attn-mlp": {"denoiser": ATTENTION + MLP, **dict.fromkeys(ENCODERS, CLIP_ATTENTION + CLIP_MLP)},
        "all": {
            "denoiser": ATTENTION + MLP + CONVOLUTIONS,
            **dict.fromkeys(ENCODERS, CLIP_ATTENTION + CLIP_MLP),
        },
    }
    exports = {
        "kohya": ExportTable(
            "kohya",
            {"denoiser": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
            sgm_place,
        )
    }
    conversions = (
        ExportTable("peft", {"denoiser": "unet", **{name: name for name in ENCODERS}}, diffusers_place),
        # Trainers that are made of diffusers flatten its names instead.
        ExportTable(
            "kohya",
            {"denoiser": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
            diffusers_place,
        ),
    )

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return both encoders' second last layer side by side (77, 2048), and the second's pooled text (1280,)."""
        pipeline = parts.pipeline(diffusers.StableDiffusionXLPipeline)
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return [{"hidden": h, "pooled": p} for h, p in zip(hidden, pooled, strict=True)]

    def geometry(self, parts: Parts, view: View) -> TextRow:
        """Return (original height, width, crop top, left, target height, width), as the pipeline passes them."""
        (width, height), (left, top), (target_width, target_height) = view.original, view.crop, view.target
        return {
            "time_ids": torch.tensor(
                [height, width, top, left, target_height, target_width], dtype=torch.float32
            )
        }

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the UNet with whole timesteps."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        added = {"text_embeds": text["pooled"].to(dtype), "time_ids": text["time_ids"].to(dtype)}
        out: Tensor = parts.denoiser(
            noised.to(dtype), t, text["hidden"].to(dtype), added_cond_kwargs=added, return_dict=False
        )[0]
        return out

    def normalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Scale, after mean and deviation where the VAE's config has them (Playground and others)."""
        mean, deviation = _statistics(parts)
        return (latents - mean.to(latents)) / deviation.to(latents) * _scale(parts)

    def denormalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        mean, deviation = _statistics(parts)
        return latents / _scale(parts) * deviation.to(latents) + mean.to(latents)

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name SDXL 1.0 and what it predicts."""
        v = parts.process.objective == "v"
        return {
            "ss_v2": "False",
            "ss_base_model_version": "sdxl_base_v1-0",
            "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
            "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
            "modelspec.prediction_type": "v" if v else "epsilon",
        }

    def tiny(self, prediction_type: str = "epsilon") -> Parts:
        """Build a random model with SDXL's levels, few channels, for 32-pixel pictures."""
        make: Any = diffusers.UNet2DConditionModel
        with tiny.seeded():
            components = {
                "unet": make(
                    sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(8, 16, 16),
                    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    transformer_layers_per_block=(1, 1, 2), norm_num_groups=4, cross_attention_dim=32,
                    attention_head_dim=(2, 4, 4), use_linear_projection=True, addition_embed_type="text_time",
                    addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
                ),
                "vae": tiny.kl_autoencoder(),
                "text_encoder": tiny.clip_text_encoder(),
                "text_encoder_2": tiny.clip_text_encoder(projection=True),
                "tokenizer": tiny.clip_tokenizer(),
                "tokenizer_2": tiny.clip_tokenizer(),
            }  # fmt: skip
        parts = self._parts(components, tiny.ddim_scheduler(prediction_type), None)
        parts.freeze()
        return parts


def _scale(parts: Parts) -> float:
    config: Any = parts.vae.config
    return float(config.scaling_factor)


def _statistics(parts: Parts) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the VAE's latents, (1, C, 1, 1); 0 and 1 where the config has none."""
    config: Any = parts.vae.config
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return torch.zeros(1), torch.ones(1)
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(deviation).view(1, -1, 1, 1)
