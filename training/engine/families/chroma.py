"""Chroma: FLUX.1 without CLIP and without guidance; only the text itself and one filling token are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import diffusers
import torch
from diffusers.models.transformers.transformer_chroma import ChromaTransformerBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.families.flux import FluxPipeline, unpack
from training.engine.testing import tiny

T5_TOKENS = 512


class Chroma(ModelFamily):
    """Train Chroma1."""

    name = "chroma"
    title = "Chroma"
    pipelines = ("ChromaPipeline",)
    divisor = 16
    timestep_sampling = "logit_normal"
    guidance_default = 5.0
    presets = dits.presets(dits.JOINT_ATTENTION, dits.MLP, ("proj_mlp", "proj_out"))
    exports = {"peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return T5's last layer (L, 4096) up to the first filling token, which the model was trained to see.

        The tokens have no positions, so those that are masked can as well be left out.
        """
        length = min(T5_TOKENS, int(parts.components["tokenizer"].model_max_length))
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, _, mask, *_ = parts.pipeline(diffusers.ChromaPipeline).encode_prompt(
            list(prompts), device=device, do_classifier_free_guidance=False, max_sequence_length=length
        )
        # Counted as whole numbers: the mask has the encoder's format, and bf16 cannot count to 512.
        return [{"hidden": h[: int(m.bool().sum())]} for h, m in zip(hidden, mask, strict=True)]

    def collate_text(self, rows: Sequence[TextRow]) -> TextRow:
        """Fill rows up to one length, and say which tokens are text where that was needed."""
        return dits.with_mask(super().collate_text(rows), rows)

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Pack 2 x 2 latents to tokens; the transformer takes sigma itself and predicts noise - x0."""
        count, channels, height, width = noised.shape
        denoiser: Any = parts.denoiser
        dtype = next(iter(denoiser.parameters())).dtype
        packed = FluxPipeline._pack_latents(noised.to(dtype), count, channels, height, width)
        mask = text.get("mask")
        if mask is not None:
            # True and False: the pipeline passes 1.0 and 0.0, which attention adds to its scores instead of masking
            # (diffusers issue 12116).
            mask = torch.cat([mask, mask.new_ones(count, packed.shape[1])], dim=1)
        if denoiser.gradient_checkpointing:
            denoiser._gradient_checkpointing_func = partial(_computed_twice, mask)
        out = denoiser(
            hidden_states=packed, timestep=t, encoder_hidden_states=text["hidden"].to(dtype), attention_mask=mask,
            txt_ids=torch.zeros(text["hidden"].shape[1], 3, device=noised.device, dtype=dtype),
            img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, noised.device, dtype),
            return_dict=False,
        )[0]  # fmt: skip
        return unpack(out, height, width)

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name Chroma."""
        return {
            "ss_base_model_version": "chroma",
            "modelspec.architecture": "chroma/lora",
            "modelspec.implementation": "https://huggingface.co/lodestones/Chroma",
        }

    def tiny(self) -> Parts:
        """Build a random model of two kinds of blocks for 32-pixel pictures."""
        make: Any = diffusers.ChromaTransformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
                    approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1,
                ),
                "vae": tiny.kl_autoencoder(4, scaling=0.36, shift=0.12),
                "text_encoder": tiny.t5_encoder(), "tokenizer": tiny.t5_tokenizer(),
            }  # fmt: skip
        components["tokenizer"].model_max_length = tiny.LENGTH
        parts = self._parts(components, tiny.flow_scheduler(shift=3.0), None)
        parts.freeze()
        return parts


def _computed_twice(mask: Tensor | None, block: nn.Module, *inputs: Any) -> Any:
    """Compute a block without keeping what its backward pass needs.

    In diffusers 0.42 single blocks lose their mask this way (transformer_chroma.py, ``forward``).
    """
    given: dict[str, Any] = {} if isinstance(block, ChromaTransformerBlock) else {"attention_mask": mask}
    return checkpoint(block, *inputs, use_reentrant=False, **given)
