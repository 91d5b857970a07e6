"""Lumina Image 2.0: Gemma 2 for text, FLUX's autoencoder, rectified flow whose time runs from noise to picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
from torch import Tensor

from training.engine.export.table import Place
from training.engine.families import dits
from training.engine.families.base import BARE, ModelFamily, Parts, TextRow
from training.engine.testing import tiny

QKV = ("to_q", "to_k", "to_v")
NATIVE = {
    "attn.to_out.0": "attention.out",
    "feed_forward.linear_1": "feed_forward.w1",
    "feed_forward.linear_2": "feed_forward.w2",
    "feed_forward.linear_3": "feed_forward.w3",
    "norm1.linear": "adaLN_modulation.1",
}
OUTER = {
    "time_caption_embed.caption_embedder.1": "cap_embedder.1",
    "time_caption_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_caption_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "norm_out.linear_1": "final_layer.adaLN_modulation.1",
    "norm_out.linear_2": "final_layer.linear",
}


def native_place(part: str, module: str) -> Place:
    """Place a module where the original model has it: query, key and value are one layer there.

    Names: diffusers loaders/single_file_utils.py, ``convert_lumina2_to_diffusers``.
    """
    found = re.fullmatch(r"(layers|noise_refiner|context_refiner)\.(\d+)\.(.+)", module)
    if found is None:
        return Place(OUTER.get(module, module))
    block, inner = f"{found[1]}.{found[2]}", found[3]
    if inner.removeprefix("attn.") in QKV:
        return Place(f"{block}.attention.qkv", QKV.index(inner.removeprefix("attn.")), len(QKV))
    return Place(f"{block}.{NATIVE.get(inner, inner)}")


class Lumina2(ModelFamily):
    """Train Lumina Image 2.0 and models made from it."""

    name = "lumina2"
    title = "Lumina Image 2.0"
    pipelines = ("Lumina2Pipeline", "Lumina2Text2ImgPipeline")
    divisor = 16
    guidance_default = 4.0
    presets = dits.presets(
        dits.ATTENTION,
        ("feed_forward.linear_1", "feed_forward.linear_2", "feed_forward.linear_3"),
        ("norm1.linear",),
    )
    exports = {"comfy": dits.comfy(native_place), "peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return Gemma's second last layer (L, 2304) of the instruction and the prompt, and a mask of ones (L,).

        Empty and negative prompts stand without the instruction, as in the pipeline.
        """
        pipeline = parts.pipeline(diffusers.Lumina2Pipeline)
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        texts = [
            each.removeprefix(BARE) if not each or each.startswith(BARE)
            else f"{pipeline.system_prompt} <Prompt Start> {each}"
            for each in prompts
        ]  # fmt: skip
        hidden, mask = pipeline._get_gemma_prompt_embeds(texts, device)
        return dits.unpadded(hidden, mask)

    def negative(self, prompt: str) -> str:
        """Mark it as a text without the instruction."""
        return BARE + prompt if prompt else ""

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Tell the transformer how clean the picture is, 1 - sigma; it predicts x0 - noise."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        out: Tensor = parts.denoiser(
            hidden_states=noised.to(dtype), timestep=1.0 - t, encoder_hidden_states=text["hidden"].to(dtype),
            encoder_attention_mask=text["mask"].bool(), return_dict=False,
        )[0]  # fmt: skip
        return -out

    def guided(self, plain: Tensor, prompted: Tensor, guidance: float) -> Tensor:
        """Keep the lengths that the prompted prediction has along the width, as the pipeline does by default."""
        return dits.as_long_as(prompted, super().guided(plain, prompted, guidance))

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name Lumina Image 2.0."""
        return {
            "ss_base_model_version": "lumina2",
            "modelspec.architecture": "lumina-2/lora",
            "modelspec.implementation": "https://github.com/Alpha-VLLM/Lumina-Image-2.0",
        }

    def tiny(self) -> Parts:
        """Build a random model of two blocks and one of each refiner for 32-pixel pictures."""
        make: Any = diffusers.Lumina2Transformer2DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    sample_size=8, in_channels=4, hidden_size=32, num_layers=2, num_refiner_layers=1,
                    num_attention_heads=2, num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 6, 6),
                    axes_lens=(300, 64, 64), cap_feat_dim=16,
                ),
                "vae": tiny.kl_autoencoder(scaling=0.36, shift=0.12),
                "text_encoder": tiny.gemma2_model(), "tokenizer": tiny.gemma_tokenizer(),
            }  # fmt: skip
        parts = self._parts(components, tiny.flow_scheduler(shift=6.0), None)
        parts.freeze()
        return parts
