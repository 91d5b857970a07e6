"""Qwen-Image: Qwen 2.5 VL reads the prompt in a template, latents of a video VAE's first frame, rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.families.flux import FluxPipeline, unpack
from training.engine.testing import tiny, tiny_language

MLP = ("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2")


class QwenImage(ModelFamily):
    """Train Qwen-Image."""

    name = "qwen-image"
    title = "Qwen-Image"
    pipelines = ("QwenImagePipeline",)
    divisor = 16
    timestep_sampling = "logit_normal"
    guidance_default = 4.0
    presets = dits.presets(dits.JOINT_ATTENTION, MLP)
    exports = {"peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return the last layer (L, 3584) of the prompt alone: the template's beginning is cut off by the pipeline."""
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, mask = parts.pipeline(diffusers.QwenImagePipeline).encode_prompt(list(prompts), device=device)
        lengths = [hidden.shape[1]] * len(prompts) if mask is None else mask.sum(1).tolist()
        return [{"hidden": row[: int(length)]} for row, length in zip(hidden, lengths, strict=True)]

    def collate_text(self, rows: Sequence[TextRow]) -> TextRow:
        """Fill rows up to one length, and say which tokens are text where that was needed."""
        return dits.with_mask(super().collate_text(rows), rows)

    @torch.no_grad()
    def encode_image(self, parts: Parts, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, H, W) into the latents of a film of one frame, without the frame's dimension."""
        film: Tensor = parts.vae.encode(pixels.unsqueeze(2)).latent_dist.mode()  # type: ignore[operator]
        return self.normalise(parts, film.squeeze(2))

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        """Turn latents into the one frame of a film."""
        film: Tensor = parts.vae.decode(self.denormalise(parts, latents).unsqueeze(2), return_dict=False)[0]  # type: ignore[operator]
        return film.squeeze(2)

    def normalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Bring each channel to mean 0 and deviation 1 by the VAE's config."""
        mean, deviation = _statistics(parts, latents)
        return (latents - mean) / deviation

    def denormalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        mean, deviation = _statistics(parts, latents)
        return latents * deviation + mean

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return (16, H / 8, W / 8)."""
        config: Any = parts.vae.config
        factor = 2 ** len(config.temperal_downsample)
        return (config.z_dim, height // factor, width // factor)

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Pack 2 x 2 latents to tokens; the transformer takes sigma itself and predicts noise - x0."""
        count, channels, height, width = noised.shape
        dtype = next(iter(parts.denoiser.parameters())).dtype
        out = parts.denoiser(
            hidden_states=FluxPipeline._pack_latents(noised.to(dtype), count, channels, height, width), timestep=t,
            encoder_hidden_states=text["hidden"].to(dtype), encoder_hidden_states_mask=text.get("mask"),
            img_shapes=[[(1, height // 2, width // 2)]] * count, return_dict=False,
        )[0]  # fmt: skip
        return unpack(out, height, width)

    def guided(self, plain: Tensor, prompted: Tensor, guidance: float) -> Tensor:
        """Keep the length that each token of the prompted prediction has, as the pipeline does."""
        count, channels, height, width = prompted.shape
        plain, prompted = (
            FluxPipeline._pack_latents(each, count, channels, height, width) for each in (plain, prompted)
        )
        return unpack(dits.as_long_as(prompted, super().guided(plain, prompted, guidance)), height, width)

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name Qwen-Image as musubi-tuner does."""
        return {
            "ss_base_model_version": "qwen_image",
            "modelspec.architecture": "Qwen-Image/lora",
            "modelspec.implementation": "https://github.com/QwenLM/Qwen-Image",
        }

    def tiny(self) -> Parts:
        """Build a random model of two blocks for 32-pixel pictures."""
        make: Any = diffusers.QwenImageTransformer2DModel
        autoencoder: Any = diffusers.AutoencoderKLQwenImage
        with tiny.seeded():
            components = {
                "transformer": make(
                    patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
                ),
                "vae": autoencoder(
                    base_dim=8, z_dim=4, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True],
                    latents_mean=[-0.8, 0.1, 1.6, -0.3], latents_std=[2.8, 1.5, 2.3, 1.1],
                ),
                "text_encoder": tiny_language.qwen25_vl(), "tokenizer": tiny.qwen_tokenizer(),
            }  # fmt: skip
        scheduler = tiny.flow_scheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192,
            shift_terminal=0.02,
        )  # fmt: skip
        parts = self._parts(components, scheduler, None)
        parts.freeze()
        return parts


def _statistics(parts: Parts, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the VAE's latents, (1, C, 1, 1)."""
    config: Any = parts.vae.config
    mean, deviation = (
        torch.tensor(each).view(1, -1, 1, 1) for each in (config.latents_mean, config.latents_std)
    )
    return mean.to(like), deviation.to(like)
