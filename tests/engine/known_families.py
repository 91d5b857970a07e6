"""What is known of each family from elsewhere: how its diffusers pipeline is called, how many layers are adapted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor


def as_it_is(latents: Tensor) -> Tensor:
    return latents


def packed(latents: Tensor) -> Tensor:
    pipeline: Any = diffusers.FluxPipeline
    return pipeline._pack_latents(latents, *latents.shape)


def packed_clips(latents: Tensor) -> Tensor:
    pipeline: Any = diffusers.LTXPipeline
    return pipeline._pack_latents(latents)


class EulerAtShift(diffusers.FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Take the shifted Euler steps of a flow model whose folder names a solver of higher order."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **_: Any) -> None:
        levels = torch.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
        super().set_timesteps(sigmas=levels.tolist())


@dataclasses.dataclass(frozen=True)
class Known:
    """Be the facts of one family.

    ``call`` are further arguments of the pipeline, at a guidance that is off or that training uses; ``latents`` brings
    (B, C, h, w) into the form its ``latents`` argument has; ``modules`` counts the adapted layers of the tiny model by
    preset, text encoders included; ``idle`` those that no gradient reaches; ``not_for_diffusers`` are layouts that its
    pipeline does not read; ``guidance`` is the name of its argument, ``negative`` what pictures are guided away from.
    """

    pipeline: str
    modules: Mapping[str, int]
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    latents: Callable[[Tensor], Tensor] = as_it_is
    takes_sigmas: bool = False
    idle: int = 0
    not_for_diffusers: Sequence[str] = ()
    guidance: str = "guidance_scale"
    negative: str = "two dogs."


KNOWN: dict[str, Known] = {
    "chroma": Known(
        "ChromaPipeline", {"attn": 11, "attn-mlp": 15, "all": 18},
        # 11 tokens and one filling token: with more of them the pipeline masks, and does it wrong.
        {"guidance_scale": 1.0, "max_sequence_length": 12}, packed, takes_sigmas=True,
    ),
    "flux": Known(
        "FluxPipeline", {"attn": 11, "attn-mlp": 15, "all": 18}, {"guidance_scale": 1.0, "max_sequence_length": 24},
        packed, takes_sigmas=True,
    ),
    "flux2": Known(
        "Flux2Pipeline", {"attn": 10, "attn-mlp": 14, "all": 14},
        {"guidance_scale": 1.0, "max_sequence_length": 48, "text_encoder_out_layers": (1, 2, 3)}, takes_sigmas=True,
    ),
    "flux2-klein": Known(
        "Flux2KleinPipeline", {"attn": 10, "attn-mlp": 14, "all": 14},
        {"guidance_scale": 1.0, "max_sequence_length": 96, "text_encoder_out_layers": (1, 2, 3)}, takes_sigmas=True,
        negative="",  # the pipeline takes no other
    ),
    "ltx": Known(
        "LTXPipeline", {"attn": 16, "attn-mlp": 20, "all": 22}, {"guidance_scale": 1.0},
        packed_clips,
    ),
    "lumina2": Known(
        "Lumina2Pipeline", {"attn": 16, "attn-mlp": 28, "all": 31}, {"guidance_scale": 1.0}, takes_sigmas=True,
        not_for_diffusers=["comfy"],  # it parts query, key and value at the widths of the full size
    ),
    "pixart": Known(
        "PixArtAlphaPipeline", {"attn": 16, "attn-mlp": 20, "all": 23},
        {"guidance_scale": 1.0, "use_resolution_binning": False, "clean_caption": False},
    ),
    "qwen-image": Known(
        "QwenImagePipeline", {"attn": 16, "attn-mlp": 24, "all": 24}, {"true_cfg_scale": 1.0}, packed,
        takes_sigmas=True, guidance="true_cfg_scale",
        idle=4,  # the last block's text: what it asks and becomes is read by nobody
    ),
    "sana": Known(
        "SanaPipeline", {"attn": 16, "attn-mlp": 20, "all": 23},
        {"guidance_scale": 1.0, "use_resolution_binning": False},
    ),
    "sd": Known("StableDiffusionPipeline", {"attn": 40, "attn-mlp": 60, "all": 91}, {"guidance_scale": 1.0}),
    "sd3": Known(
        "StableDiffusion3Pipeline", {"attn": 19, "attn-mlp": 25, "all": 25},
        {"guidance_scale": 1.0, "max_sequence_length": 24}, takes_sigmas=True,
        idle=1,  # what the last block asks with its text: nobody reads the answer
    ),
    "sdxl": Known(
        "StableDiffusionXLPipeline", {"attn": 152, "attn-mlp": 216, "all": 281}, {"guidance_scale": 1.0},
        idle=6,  # the first encoder's last layer: SDXL reads the one before
    ),
    "wan": Known(
        "WanPipeline", {"attn": 16, "attn-mlp": 20, "all": 23}, {"guidance_scale": 1.0},
    ),
    "z-image": Known(
        "ZImagePipeline", {"attn": 12, "attn-mlp": 21, "all": 21}, {"guidance_scale": 0.0, "max_sequence_length": 96},
        takes_sigmas=True,
    ),
}  # fmt: skip
