"""LTX-Video: T5 for text, an autoencoder that makes clips 8 x 32 x 32 times smaller, packed latents, rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.export.table import Place
from training.engine.families import dits
from training.engine.families.base import Parts, TextRow
from training.engine.families.video import VideoFamily
from training.engine.testing import tiny

LTXPipeline: Any = diffusers.LTXPipeline
LTXConditionPipeline: Any = diffusers.LTXConditionPipeline
PLAIN, CONDITION = "LTXPipeline", "LTXConditionPipeline"
TOKENS = {PLAIN: 128, CONDITION: 256}


def native_place(part: str, module: str) -> Place:
    """Place a module where the original model has it (``convert_ltx_transformer_checkpoint_to_diffusers``)."""
    if module == "proj_in":
        return Place("patchify_proj")
    return Place(module.replace("time_embed.", "adaln_single."))


class LTX(VideoFamily):
    """Train LTX-Video 0.9."""

    name = "ltx"
    title = "LTX-Video"
    pipelines = (PLAIN, CONDITION)
    divisor = 32
    frame_step = 8
    frame_rate = 25
    guidance_default = 3.0
    timestep_sampling = "logit_normal"
    presets = dits.presets(
        dits.ATTENTION,
        ("ff.net.0.proj", "ff.net.2"),
        ("caption_projection.linear_1", "caption_projection.linear_2"),
    )
    exports = {"comfy": dits.comfy(native_place), "peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return T5's last layer (L, 4096) without the padding, and a mask of ones (L,).

        How long the padding is, and whether T5 reads it along, differs by pipeline.
        """
        kind = self.dialect(parts)
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, mask, _, _ = parts.pipeline(getattr(diffusers, kind)).encode_prompt(
            list(prompts), None, False, device=device, max_sequence_length=TOKENS[kind]
        )
        return dits.unpadded(hidden, mask)

    def dialect(self, parts: Parts) -> str:
        """Name the pipeline, which decides what T5 reads."""
        return str(parts.settings["_class_name"])

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        """Turn latents into stills or clips; a decoder that removes noise (0.9.1 and later) is told there is none."""
        raw = self.denormalise(parts, latents)
        config: Any = parts.vae.config
        t = (
            torch.zeros(raw.shape[0], device=raw.device, dtype=raw.dtype)
            if config.timestep_conditioning
            else None
        )
        clips: Tensor = parts.vae.decode(raw, t, return_dict=False)[0]  # type: ignore[operator]
        return clips[:, :, 0] if clips.shape[2] == 1 else clips

    def normalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Bring each channel to mean 0 and deviation 1, by what the VAE's file says of them."""
        normalised: Tensor = LTXPipeline._normalize_latents(latents, *_statistics(parts))
        return normalised

    def denormalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        raw: Tensor = LTXPipeline._denormalize_latents(latents, *_statistics(parts))
        return raw

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Make each place a token, call the transformer with timesteps 0 to 1000; it predicts noise - x0."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        frames, height, width = noised.shape[2:]
        out = parts.denoiser(
            hidden_states=LTXPipeline._pack_latents(noised.to(dtype)), timestep=dits.TIMESTEPS * t,
            encoder_hidden_states=text["hidden"].to(dtype), encoder_attention_mask=text["mask"],
            num_frames=frames, height=height, width=width, return_dict=False, **self._places(parts, noised),
        )[0]  # fmt: skip
        unpacked: Tensor = LTXPipeline._unpack_latents(out, frames, height, width)
        return unpacked

    def _places(self, parts: Parts, noised: Tensor) -> dict[str, Any]:
        """Tell the transformer where its tokens are, in seconds at our frame rate and pixels.

        From 0.9.5 on (the condition pipeline) the first latent frame is one frame, not eight.
        """
        ft, f = self.compression(parts)
        if self.dialect(parts) != CONDITION:
            return {"rope_interpolation_scale": (ft / self.frame_rate, f, f)}
        count, _, frames, height, width = noised.shape
        ids = LTXConditionPipeline._prepare_video_ids(count, frames, height, width, device=noised.device)
        places = LTXConditionPipeline._scale_video_ids(ids, scale_factor=f, scale_factor_t=ft).float()
        places[:, 0] /= self.frame_rate
        return {"video_coords": places}

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Name LTX-Video."""
        return {
            "ss_base_model_version": "ltxv",
            "modelspec.architecture": "ltx-video/lora",
            "modelspec.implementation": "https://github.com/Lightricks/LTX-Video",
        }

    def tiny(self, pipeline: str = PLAIN, told_the_noise: bool = False) -> Parts:
        """Build a random model of two blocks for 32-pixel pictures and clips, made 4 x 4 x 4 times smaller."""
        make: Any = diffusers.LTXVideoTransformer3DModel
        with tiny.seeded():
            components = {
                "transformer": make(
                    in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8, num_layers=2,
                    cross_attention_dim=16, caption_channels=16,
                ),
                "vae": tiny.ltx_autoencoder(8, told_the_noise=told_the_noise),
                "text_encoder": tiny.t5_encoder(), "tokenizer": tiny.t5_tokenizer(),
            }  # fmt: skip
        # The condition pipeline gives its scheduler times of its own, which takes no shift along.
        scheduler = tiny.flow_scheduler() if pipeline == CONDITION else tiny.flow_scheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024,
            max_image_seq_len=4096, shift_terminal=0.1,
        )  # fmt: skip
        parts = self._parts(components, scheduler, None, {"_class_name": pipeline})
        parts.freeze()
        return parts


def _statistics(parts: Parts) -> tuple[Tensor, Tensor, float]:
    """Return mean and deviation of the VAE's latents, (C,), and the scale that follows."""
    vae: Any = parts.vae
    return vae.latents_mean, vae.latents_std, vae.config.scaling_factor
