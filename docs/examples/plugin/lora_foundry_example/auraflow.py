"""AuraFlow: UMT5, a transformer that takes latents unpacked, rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
from torch import Tensor

from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.testing import tiny

TOKENS = 256


class AuraFlow(ModelFamily):
    """Train AuraFlow 0.1 to 0.3."""

    name = "auraflow"
    title = "AuraFlow"
    pipelines = ("AuraFlowPipeline",)
    divisor = 16
    timestep_sampling = "logit_normal"
    presets = dits.presets((*dits.JOINT_ATTENTION,), ("linear_1", "linear_2", "out_projection"))
    exports = {"peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return UMT5's last layer (256, 2048), zero where the prompt has ended, as the pipeline makes it."""
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, *_ = parts.pipeline(diffusers.AuraFlowPipeline).encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=device, max_sequence_length=TOKENS
        )
        return [{"hidden": row} for row in hidden]

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the transformer, which takes sigma and predicts noise - x0."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        out: Tensor = parts.denoiser(
            noised.to(dtype),
            encoder_hidden_states=text["hidden"].to(dtype),
            timestep=t.to(dtype),
            return_dict=False,
        )[0]
        return out

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name the architecture."""
        return {"modelspec.architecture": "auraflow/lora", "modelspec.implementation": "diffusers"}

    def tiny(self) -> Parts:
        """Build a random model of two blocks for 32-pixel pictures."""
        make: Any = diffusers.AuraFlowTransformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    sample_size=8, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
                    attention_head_dim=8, num_attention_heads=4, joint_attention_dim=16, caption_projection_dim=32,
                    pos_embed_max_size=256,
                ),
                "vae": tiny.kl_autoencoder(),
                "text_encoder": tiny.t5_encoder(multilingual=True), "tokenizer": tiny.t5_tokenizer(),
            }  # fmt: skip
        parts = self._parts(components, tiny.flow_scheduler(shift=1.73), None)
        parts.freeze()
        return parts
