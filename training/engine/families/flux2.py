"""FLUX.2: a language model's layers as text, latents in patches of 2 x 2 brought to one scale by a batch norm's
statistics, rectified flow. dev takes its guidance as a number; klein is smaller and takes none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from torch import Tensor

from training.engine.export.table import Place
from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.testing import tiny, tiny_language

Flux2Pipeline: Any = diffusers.Flux2Pipeline
TOKENS = 512
ATTENTION = (*dits.JOINT_ATTENTION, "to_qkv_mlp_proj", "attn.to_out")
"""Single blocks have attention and feed-forward in one layer."""
MLP = ("ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out")
NATIVE = {
    **dits.FLUX_ATTENTION,
    "ff.linear_in": Place("img_mlp.0"), "ff.linear_out": Place("img_mlp.2"),
    "ff_context.linear_in": Place("txt_mlp.0"), "ff_context.linear_out": Place("txt_mlp.2"),
    "attn.to_qkv_mlp_proj": Place("linear1"), "attn.to_out": Place("linear2"),
}  # fmt: skip
"""Names in the original model (diffusers loaders/lora_conversion_utils.py reads both)."""

OUTER = {
    "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
    "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_guidance_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_guidance_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
    "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin",
    "single_stream_modulation.linear": "single_stream_modulation.lin",
}  # fmt: skip


def native_place(part: str, module: str) -> Place:
    """Place a layer as the original model names it; query, key and value are one layer there."""
    if found := re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", module):
        block = f"{'single' if found[1] else 'double'}_blocks.{found[2]}"
        if place := NATIVE.get(found[3]):
            return Place(f"{block}.{place.path}", place.index, place.count)
    return Place(OUTER.get(module, module))


def text_layers(depth: int) -> tuple[int, int, int]:
    """Return the layers that are the text: a quarter, half and three quarters of the way through the encoder."""
    return (depth // 4, depth // 2, 3 * depth // 4)


class Flux2(ModelFamily):
    """Train FLUX.2 dev."""

    name = "flux2"
    title = "FLUX.2"
    pipelines = ("Flux2Pipeline",)
    texts_at_once = 4
    divisor = 16
    timestep_sampling = "logit_normal"
    guidance_default = 4.0
    presets = dits.presets(ATTENTION, MLP)
    exports = {"peft": dits.PEFT, "comfy": dits.comfy(native_place)}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return three layers of the language model side by side (512, 15360), filling and all."""
        encoder: Any = parts.text_encoders["text_encoder"]
        depth = encoder.config.get_text_config().num_hidden_layers
        hidden, _ = parts.pipeline(getattr(diffusers, self.pipelines[0])).encode_prompt(
            list(prompts), device=next(encoder.parameters()).device, max_sequence_length=self._tokens(parts),
            text_encoder_out_layers=text_layers(depth),
        )  # fmt: skip
        return [{"hidden": row} for row in hidden]

    @staticmethod
    def _tokens(parts: Parts) -> int:
        return min(TOKENS, int(parts.components["tokenizer"].model_max_length))

    def normalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Turn (B, 32, h, w) into patches (B, 128, h/2, w/2) of mean 0 and deviation 1."""
        mean, deviation = _statistics(parts, latents)
        patches: Tensor = (Flux2Pipeline._patchify_latents(latents) - mean) / deviation
        return patches

    def denormalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        mean, deviation = _statistics(parts, latents)
        raw: Tensor = Flux2Pipeline._unpatchify_latents(latents * deviation + mean)
        return raw

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return the shape of the patches, (128, H / 16, W / 16)."""
        channels, rows, columns = super().latent_shape(parts, width, height)
        return (4 * channels, rows // 2, columns // 2)

    def tokens(self, latent_shape: Sequence[int]) -> int:
        """Return how many tokens a picture is: one for each patch."""
        return latent_shape[-2] * latent_shape[-1]

    def drawing_shift(self, parts: Parts, latent_shape: Sequence[int], steps: int) -> float:
        """Return the shift that the pipeline draws with, which is larger for few steps."""
        if not parts.scheduler_config.get("use_dynamic_shifting"):
            return self.shift(parts, latent_shape)
        return math.exp(compute_empirical_mu(self.tokens(latent_shape), steps))

    def is_told_guidance(self, parts: Parts) -> bool:
        """Tell dev from klein."""
        config: Any = parts.denoiser.config
        return bool(config.guidance_embeds)

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Make each patch a token; the transformer takes sigma itself and predicts noise - x0."""
        denoiser: Any = parts.denoiser
        dtype, device = next(iter(denoiser.parameters())).dtype, noised.device
        out: Tensor = denoiser(
            hidden_states=Flux2Pipeline._pack_latents(noised.to(dtype)), timestep=t,
            guidance=dits.told_guidance(text, noised) if self.is_told_guidance(parts) else None,
            encoder_hidden_states=text["hidden"].to(dtype),
            txt_ids=Flux2Pipeline._prepare_text_ids(text["hidden"]).to(device),
            img_ids=Flux2Pipeline._prepare_latent_ids(noised).to(device), return_dict=False,
        )[0]  # fmt: skip
        return out.transpose(1, 2).reshape(noised.shape)

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name FLUX.2 dev as musubi-tuner does."""
        return _named("flux_2_dev", "Flux.2-dev")

    def tiny(self, guidance: bool = True) -> Parts:
        """Build a random model of two kinds of blocks for 32-pixel pictures."""
        with tiny.seeded():
            components = {
                "transformer": _transformer(3 * 16, guidance), "vae": _autoencoder(),
                "text_encoder": tiny_language.mistral3(),
                "tokenizer": tiny_language.mistral_tokenizer(48, words=[SYSTEM_MESSAGE]),
            }  # fmt: skip
        return self._tiny(components)

    def _tiny(self, components: dict[str, Any], settings: Mapping[str, Any] | None = None) -> Parts:
        scheduler = tiny.flow_scheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        )
        parts = self._parts(components, scheduler, None, settings)
        parts.freeze()
        return parts


class Flux2Klein(Flux2):
    """Train FLUX.2 klein: Qwen 3 as the encoder, no guidance to be told."""

    name = "flux2-klein"
    title = "FLUX.2 klein"
    pipelines = ("Flux2KleinPipeline",)

    def is_distilled(self, parts: Parts) -> bool:
        """Read it from the index; the weights' own config is the same for base models and distilled ones."""
        return bool(parts.settings.get("is_distilled"))

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Tell 4B from 9B by the width of the text, as musubi-tuner names them."""
        config: Any = parts.denoiser.config
        size = "9" if config.joint_attention_dim > 7680 else "4"
        return _named(f"flux_2_klein_{size}b", f"Flux.2-klein-{size}b")

    def tiny(self, distilled: bool = False) -> Parts:
        """Build a random model of two kinds of blocks for 32-pixel pictures."""
        with tiny.seeded():
            components = {
                "transformer": _transformer(3 * 16, guidance=False), "vae": _autoencoder(),
                "text_encoder": tiny_language.qwen3(), "tokenizer": tiny.qwen_tokenizer(),
            }  # fmt: skip
        components["tokenizer"].model_max_length = 96
        return self._tiny(components, {"is_distilled": distilled})


def _named(version: str, architecture: str) -> dict[str, str]:
    return {
        "ss_base_model_version": version,
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "https://github.com/black-forest-labs/flux2",
    }


def _statistics(parts: Parts, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the patches, (1, 128, 1, 1), as the VAE's batch norm counted them."""
    vae: Any = parts.vae
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    return mean.to(like), deviation.to(like)


def _transformer(text: int, guidance: bool) -> Any:
    make: Any = diffusers.Flux2Transformer2DModel
    return make(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=text, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guidance,
    )  # fmt: skip


def _autoencoder() -> Any:
    """Build an AutoencoderKLFlux2 that makes pictures four times smaller."""
    make: Any = diffusers.AutoencoderKLFlux2
    vae = make(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, sample_size=32,
        layers_per_block=1, mid_block_add_attention=False,
    )  # fmt: skip
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae
