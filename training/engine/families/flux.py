"""FLUX.1 (dev, schnell and models made from them): CLIP for the pooled text, T5, packed latents, rectified flow."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.export.table import ExportTable, Place
from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.testing import tiny

FluxPipeline: Any = diffusers.FluxPipeline
T5_TOKENS = 512
DOUBLE = {
    **dits.FLUX_ATTENTION,
    "ff.net.0.proj": Place("img_mlp.0"), "ff.net.2": Place("img_mlp.2"),
    "ff_context.net.0.proj": Place("txt_mlp.0"), "ff_context.net.2": Place("txt_mlp.2"),
    "norm1.linear": Place("img_mod.lin"), "norm1_context.linear": Place("txt_mod.lin"),
}  # fmt: skip
SINGLE = {
    "attn.to_q": Place("linear1", 0, 4), "attn.to_k": Place("linear1", 1, 4), "attn.to_v": Place("linear1", 2, 4),
    "proj_mlp": Place("linear1", 3, 4), "proj_out": Place("linear2"), "norm.linear": Place("modulation.lin"),
}  # fmt: skip
OUTER = {
    "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
    **{f"time_text_embed.{ours}_embedder.linear_{number}": f"{theirs}_in.{layer}_layer"
       for ours, theirs in (("timestep", "time"), ("guidance", "guidance"), ("text", "vector"))
       for number, layer in ((1, "in"), (2, "out"))},
}  # fmt: skip


def native_place(part: str, module: str) -> Place | None:
    """Place a layer where the original model has it (diffusers' ``_convert_kohya_flux_lora_to_diffusers``).

    Query, key and value are one layer there. The last modulation has none: its halves are the other way round.
    """
    found = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", module)
    if found is None:
        return Place(OUTER[module]) if module in OUTER else None
    place = (SINGLE if found[1] else DOUBLE).get(found[3])
    block = f"{'single' if found[1] else 'double'}_blocks.{found[2]}"
    return None if place is None else dataclasses.replace(place, path=f"{block}.{place.path}")


class Flux(ModelFamily):
    """Train FLUX.1."""

    name = "flux"
    title = "FLUX.1"
    pipelines = ("FluxPipeline",)
    text_encoders = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    divisor = 16
    guidance_default = 3.5
    timestep_sampling = "logit_normal"
    presets = dits.presets(dits.JOINT_ATTENTION, dits.MLP, ("proj_mlp", "proj_out"))
    exports = {"peft": dits.PEFT}
    conversions = (
        ExportTable("kohya", {"denoiser": "lora_unet"}, native_place, dtype="bf16"),
        dits.comfy(native_place),
    )

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return T5's last layer (512, 4096), padding and all, as the model was trained, and CLIP's pooled text."""
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, pooled, _ = parts.pipeline(FluxPipeline).encode_prompt(
            list(prompts), None, device=device, max_sequence_length=self._text_tokens(parts)
        )
        return [{"hidden": h, "pooled": p} for h, p in zip(hidden, pooled, strict=True)]

    @staticmethod
    def _text_tokens(parts: Parts) -> int:
        return min(T5_TOKENS, int(parts.components["tokenizer_2"].model_max_length))

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Pack 2 x 2 latents to tokens; the transformer takes sigma itself and predicts noise - x0."""
        count, channels, height, width = noised.shape
        dtype = next(iter(parts.denoiser.parameters())).dtype
        packed = FluxPipeline._pack_latents(noised.to(dtype), count, channels, height, width)
        guidance = dits.told_guidance(text, noised) if self.is_told_guidance(parts) else None
        out = parts.denoiser(
            hidden_states=packed, timestep=t, guidance=guidance,
            pooled_projections=text["pooled"].to(dtype), encoder_hidden_states=text["hidden"].to(dtype),
            txt_ids=torch.zeros(text["hidden"].shape[1], 3, device=noised.device, dtype=dtype),
            img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, noised.device, dtype),
            return_dict=False,
        )[0]  # fmt: skip
        return unpack(out, height, width)

    def is_told_guidance(self, parts: Parts) -> bool:
        """Tell dev from schnell."""
        config: Any = parts.denoiser.config
        return bool(config.guidance_embeds)

    def is_distilled(self, parts: Parts) -> bool:
        """Tell schnell by what it lacks: guidance, as models made whole again do, and times that are shifted."""
        return not self.is_told_guidance(parts) and not parts.scheduler_config.get("use_dynamic_shifting")

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Tell dev from schnell by the guidance that only dev takes."""
        return {
            "ss_base_model_version": "flux1",
            "modelspec.architecture": f"flux-1-{'dev' if self.is_told_guidance(parts) else 'schnell'}/lora",
            "modelspec.implementation": "https://github.com/black-forest-labs/flux",
        }

    def tiny(self, guidance: bool = True) -> Parts:
        """Build a random dev of two kinds of blocks for 32-pixel pictures, or a schnell, which is told no guidance."""
        make: Any = diffusers.FluxTransformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16,
                    axes_dims_rope=(4, 4, 8), guidance_embeds=guidance,
                ),
                "vae": tiny.kl_autoencoder(4, scaling=0.36, shift=0.12),
                "text_encoder": tiny.clip_text_encoder(), "tokenizer": tiny.clip_tokenizer(),
                "text_encoder_2": tiny.t5_encoder(), "tokenizer_2": tiny.t5_tokenizer(),
            }  # fmt: skip
        components["tokenizer_2"].model_max_length = tiny.LENGTH
        scheduler = tiny.flow_scheduler(
            use_dynamic_shifting=guidance,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        )
        parts = self._parts(components, scheduler, None)
        parts.freeze()
        return parts


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn tokens (B, h/2 w/2, 4 C) back into latents (B, C, h, w): the inverse of ``FluxPipeline._pack_latents``."""
    count, _, depth = tokens.shape
    grid = tokens.view(count, height // 2, width // 2, depth // 4, 2, 2)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(count, depth // 4, height, width)
