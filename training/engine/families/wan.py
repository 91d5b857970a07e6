"""Wan 2.1 and 2.2 text-to-video: UMT5 for text, a causal autoencoder 4 x 8 x 8 times smaller, rectified flow."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.nn import functional

from training.engine.export.table import Place
from training.engine.families import dits
from training.engine.families.base import Parts, TextRow
from training.engine.families.parts import Expert
from training.engine.families.video import VideoFamily
from training.engine.testing import tiny

TOKENS = 512
"""Of every prompt, filled up with zeros that the transformer attends to as well."""
ATTENTIONS = {"attn1": "self_attn", "attn2": "cross_attn"}
LAYERS = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
FEED_FORWARD = {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}
OUTER = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
}


def native_place(part: str, module: str) -> Place:
    """Place a module where the original model has it (diffusers' ``convert_wan_transformer_to_diffusers``)."""
    found = re.fullmatch(r"blocks\.(\d+)\.(?:(attn[12])\.)?(.+)", module)
    if found is None:
        return Place(OUTER.get(module, module))
    block, attention, inner = found.groups()
    if attention:
        return Place(f"blocks.{block}.{ATTENTIONS[attention]}.{LAYERS[inner]}")
    return Place(f"blocks.{block}.{FEED_FORWARD[inner]}")


class Wan(VideoFamily):
    """Train Wan 2.1 and 2.2, text to video."""

    name = "wan"
    title = "Wan 2.1 / 2.2"
    pipelines = ("WanPipeline",)
    optional = waiting = ("transformer_2",)
    divisor = 32
    frame_step = 4
    frame_rate = 16
    guidance_default = 5.0
    timestep_sampling = "logit_normal"
    presets = dits.presets(
        dits.ATTENTION,
        tuple(FEED_FORWARD),
        tuple(name for name in OUTER if "text_embedder" in name or "time_proj" in name),
    )
    exports = {"comfy": dits.comfy(native_place), "peft": dits.PEFT}

    @property
    def components(self) -> tuple[str, ...]:
        """List the components; Wan 2.2 14B has a second transformer, for low noise levels."""
        return (*super().components, "transformer_2")

    def _parts(
        self, components: dict[str, Any], config: dict[str, Any], folder: Path | None,
        settings: Mapping[str, Any] | None = None,
    ) -> Parts:  # fmt: skip
        parts = super()._parts(components, config, folder, settings)
        boundary = parts.settings.get("boundary_ratio")
        if boundary is None:
            return parts
        return dataclasses.replace(parts, experts={
            "high": Expert("transformer", boundary, 1.0),
            "low": Expert("transformer_2", 0.0, boundary - 1e-6),  # the boundary itself is the other's
        })  # fmt: skip

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return UMT5's last layer (L, 4096) of each prompt, without the zeros after it."""
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, _ = parts.pipeline(diffusers.WanPipeline).encode_prompt(
            list(prompts), None, False, device=device, max_sequence_length=TOKENS
        )
        return [{"hidden": row["hidden"]} for row in dits.unpadded(hidden, hidden.any(2))]

    def normalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Bring each channel to mean 0 and deviation 1, by the VAE's config."""
        mean, deviation = _statistics(parts, latents)
        return (latents - mean) / deviation

    def denormalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        mean, deviation = _statistics(parts, latents)
        return latents * deviation + mean

    def compression(self, parts: Parts) -> tuple[int, int]:
        """Read both factors from the VAE's config: 4 and 8, or 16 for the 5B model of 2.2."""
        config: Any = parts.vae.config
        return config.scale_factor_temporal, config.scale_factor_spatial

    def tokens(self, latent_shape: Sequence[int]) -> int:
        """Count patches of 1 x 2 x 2."""
        return super().tokens(latent_shape) // 4

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the transformer, of two the one for each row's noise level; it predicts noise - x0."""
        if not parts.experts:
            return _predict(parts.denoiser, noised, t, text["hidden"])
        high = t >= parts.experts["high"].low
        out = torch.empty_like(noised)
        for expert, rows in zip(parts.experts.values(), (high, ~high), strict=True):
            if bool(rows.any()):
                denoiser = parts.components[expert.component]
                predicted = _predict(denoiser, noised[rows], t[rows], text["hidden"][rows])
                out[rows] = predicted.to(out.dtype)
        return out

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name Wan, and which size it is by the width of its transformer."""
        config: Any = parts.denoiser.config
        width = config.num_attention_heads * config.attention_head_dim
        size = {1536: "1.3b", 3072: "5b", 5120: "14b"}.get(width, "t2v")
        return {
            "ss_base_model_version": "wan",
            "modelspec.architecture": f"wan-{size}/lora",
            "modelspec.implementation": "https://github.com/Wan-Video/Wan2.1",
        }

    def tiny(self, kind: str = "2.1") -> Parts:
        """Build a random model of two blocks for 32-pixel pictures and clips: like "2.1", or 2.2's "14b" or "5b"."""
        settings: dict[str, Any] = {"_class_name": self.pipelines[0]}
        if kind == "14b":
            settings["boundary_ratio"] = 0.7
        if kind == "5b":
            settings["expand_timesteps"] = True
        with tiny.seeded():
            components = {
                "transformer": _tiny_transformer(),
                "vae": tiny.wan_autoencoder(4, patched=kind == "5b"),
                "text_encoder": tiny.t5_encoder(multilingual=True), "tokenizer": tiny.t5_tokenizer(),
            }  # fmt: skip
            if kind == "14b":
                components["transformer_2"] = _tiny_transformer()
        parts = self._parts(components, tiny.multistep_scheduler(3.0), None, settings)
        parts.freeze()
        return parts


def _tiny_transformer() -> Any:
    make: Any = diffusers.WanTransformer3DModel
    return make(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip


def _statistics(parts: Parts, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the VAE's latents, (1, C, 1, 1, 1)."""
    config: Any = parts.vae.config
    mean, deviation = (torch.tensor(values).to(like) for values in (config.latents_mean, config.latents_std))
    return mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)


def _predict(denoiser: Any, noised: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
    """Call one transformer with timesteps 0 to 1000."""
    out: Tensor = denoiser(
        hidden_states=noised.to(denoiser.dtype), timestep=dits.TIMESTEPS * t, return_dict=False,
        encoder_hidden_states=functional.pad(hidden.to(denoiser.dtype), (0, 0, 0, TOKENS - hidden.shape[1])),
    )[0]  # fmt: skip
    return out
