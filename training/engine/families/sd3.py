"""Stable Diffusion 3 and 3.5: two CLIP encoders, T5 where the folder has it, rectified flow with a fixed shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
from torch import Tensor

from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.testing import tiny

T5_TOKENS = 256


class StableDiffusion3(ModelFamily):
    """Train Stable Diffusion 3 and 3.5, medium and large.

    Large Turbo differs in nothing but its weights: only the recipe can say that a model is distilled.
    """

    name = "sd3"
    title = "Stable Diffusion 3 / 3.5"
    pipelines = ("StableDiffusion3Pipeline",)
    text_encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    optional = ("text_encoder_3", "tokenizer_3")
    divisor = 16
    timestep_sampling = "logit_normal"
    presets = dits.presets(dits.JOINT_ATTENTION, dits.MLP)
    exports = {"peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return CLIP's 77 and T5's 256 tokens one after another (333, 4096), and both CLIPs' pooled texts (2048,).

        Without T5 its tokens are zeros, as the model was trained for.
        """
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, _, pooled, _ = parts.pipeline(diffusers.StableDiffusion3Pipeline).encode_prompt(
            list(prompts), None, None, device=device, do_classifier_free_guidance=False,
            max_sequence_length=self._t5_tokens(parts),
        )  # fmt: skip
        return [{"hidden": h, "pooled": p} for h, p in zip(hidden, pooled, strict=True)]

    @staticmethod
    def _t5_tokens(parts: Parts) -> int:
        tokenizer = parts.components.get("tokenizer_3")
        return T5_TOKENS if tokenizer is None else min(T5_TOKENS, int(tokenizer.model_max_length))

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the transformer, which takes times of 0 to 1000 and cuts the latents into patches itself."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        out: Tensor = parts.denoiser(
            hidden_states=noised.to(dtype), timestep=t * dits.TIMESTEPS, encoder_hidden_states=text["hidden"].to(dtype),
            pooled_projections=text["pooled"].to(dtype), return_dict=False,
        )[0]  # fmt: skip
        return out

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Tell the sizes by their blocks: 38 are 3.5 large; of those with 24, 3.5 medium has dual attention."""
        config: Any = parts.denoiser.config
        if config.num_layers >= 38:
            size = "-5-large"
        else:
            size = "-5-medium" if config.dual_attention_layers else "-medium"
        return {
            "ss_base_model_version": "sd3" + size,
            "modelspec.architecture": f"stable-diffusion-3{size}/lora",
            "modelspec.implementation": "diffusers",
        }

    def tiny(self, t5: bool = True) -> Parts:
        """Build a random model of two blocks, the first with dual attention, for 32-pixel pictures."""
        make: Any = diffusers.SD3Transformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
                    num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16,
                    pooled_projection_dim=32, pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
                ),
                "vae": tiny.kl_autoencoder(4, scaling=1.53, shift=0.06),
                "text_encoder": tiny.clip_text_encoder(projection=True), "tokenizer": tiny.clip_tokenizer(),
                "text_encoder_2": tiny.clip_text_encoder(projection=True), "tokenizer_2": tiny.clip_tokenizer(),
            }  # fmt: skip
            if t5:
                components |= {"text_encoder_3": tiny.t5_encoder(32), "tokenizer_3": tiny.t5_tokenizer()}
                components["tokenizer_3"].model_max_length = tiny.LENGTH
        parts = self._parts(components, tiny.flow_scheduler(shift=3.0), None)
        parts.freeze()
        return parts
