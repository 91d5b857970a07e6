"""Z-Image: Qwen 3 reads the prompt in its chat template; text and picture are one stream, times run backwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.testing import tiny, tiny_language

TOKENS = 512
TURBO_SHIFT = 3.0
"""Shift of the scheduler of Z-Image-Turbo; that of Z-Image is 6, and their transformers' configs are the same."""
MLP = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")


class ZImage(ModelFamily):
    """Train Z-Image and Z-Image-Turbo."""

    name = "z-image"
    title = "Z-Image"
    pipelines = ("ZImagePipeline",)
    texts_at_once = 4
    divisor = 16
    timestep_sampling = "logit_normal"
    guidance_default = 5.0
    presets = dits.presets(dits.ATTENTION, MLP)
    exports = {"peft": dits.PEFT, "comfy": dits.comfy()}
    """ComfyUI reads both prefixes, and other trainers write the second."""

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return the second last layer (L, 2560), the template included, no filling."""
        length = min(TOKENS, int(parts.components["tokenizer"].model_max_length))
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        rows, _ = parts.pipeline(diffusers.ZImagePipeline).encode_prompt(
            list(prompts), device=device, do_classifier_free_guidance=False, max_sequence_length=length
        )
        return [{"hidden": row} for row in rows]

    def collate_text(self, rows: Sequence[TextRow]) -> TextRow:
        """Fill rows up to one length, and say which tokens are text where that was needed."""
        return dits.with_mask(super().collate_text(rows), rows)

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the transformer with lists; its time is 1 for a clean picture, and it predicts x0 - noise."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        hidden, mask = text["hidden"].to(dtype), text.get("mask")
        lengths = [hidden.shape[1]] * len(hidden) if mask is None else mask.sum(1).tolist()
        films = parts.denoiser(
            list(noised.to(dtype).unsqueeze(2)), 1.0 - t,
            [row[:length] for row, length in zip(hidden, lengths, strict=True)], return_dict=False,
        )[0]  # fmt: skip
        return -torch.stack(films).squeeze(2)

    def guided(self, plain: Tensor, prompted: Tensor, guidance: float) -> Tensor:
        """Count guidance from the prompted prediction on, as the pipeline and the published advice of 3 to 5 do."""
        return prompted + guidance * (prompted - plain)

    def is_distilled(self, parts: Parts) -> bool:
        """Tell Turbo by its scheduler: nothing else in its files says it."""
        return parts.scheduler_config.get("shift") == TURBO_SHIFT

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name Z-Image as musubi-tuner does."""
        return {
            "ss_base_model_version": "z_image",
            "modelspec.architecture": "Z-Image/lora",
            "modelspec.implementation": "https://github.com/Tongyi-MAI/Z-Image",
        }

    def tiny(self, turbo: bool = False) -> Parts:
        """Build a random model of one block and one refiner of each kind for 32-pixel pictures."""
        make: Any = diffusers.ZImageTransformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
                    axes_dims=[4, 4, 8], axes_lens=[128, 32, 32],
                ),
                "vae": tiny.kl_autoencoder(4, scaling=0.36, shift=0.12),
                "text_encoder": tiny_language.qwen3(layers=2, head=False), "tokenizer": tiny.qwen_tokenizer(),
            }  # fmt: skip
            for name in ("x_pad_token", "cap_pad_token"):
                getattr(components["transformer"], name).data.normal_()
        components["tokenizer"].model_max_length = 96
        parts = self._parts(components, tiny.flow_scheduler(shift=TURBO_SHIFT if turbo else 6.0), None)
        parts.freeze()
        return parts
