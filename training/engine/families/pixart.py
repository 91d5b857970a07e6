"""PixArt-alpha and PixArt-sigma: T5 for text, eps-prediction, a transformer that also predicts its variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from training.engine.families import dits
from training.engine.families.base import ModelFamily, Parts, TextRow, View
from training.engine.testing import tiny

ALPHA, SIGMA = "PixArtAlphaPipeline", "PixArtSigmaPipeline"
TOKENS = {ALPHA: 120, SIGMA: 300}


class PixArt(ModelFamily):
    """Train PixArt-alpha and PixArt-sigma."""

    name = "pixart"
    title = "PixArt"
    pipelines = (ALPHA, SIGMA)
    divisor = 16
    guidance_default = 4.5
    presets = dits.presets(
        dits.ATTENTION,
        ("ff.net.0.proj", "ff.net.2"),
        ("caption_projection.linear_1", "caption_projection.linear_2", "adaln_single.linear"),
    )
    exports = {"peft": dits.PEFT}

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return T5's last layer (L, 4096) of a prompt in lower case, as in training, and a mask of ones (L,)."""
        kind = _kind(parts)
        device = next(parts.text_encoders["text_encoder"].parameters()).device
        hidden, mask, _, _ = parts.pipeline(getattr(diffusers, kind)).encode_prompt(
            list(prompts), False, device=device, max_sequence_length=TOKENS[kind]
        )
        return dits.unpadded(hidden, mask)

    def dialect(self, parts: Parts) -> str:
        """Keep alpha's shorter prompts from sigma's."""
        return _kind(parts)

    def geometry(self, parts: Parts, view: View) -> TextRow:
        """Return height, width and height / width of the bucket, where the transformer is told (alpha at 1024)."""
        if not _is_told_the_size(parts):
            return {}
        width, height = view.target
        return {
            "resolution": torch.tensor([height, width], dtype=torch.float32),
            "aspect_ratio": torch.tensor([height / width], dtype=torch.float32),
        }

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the transformer with whole timesteps and keep the first half of its channels, the noise."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        told = _is_told_the_size(parts)
        added = {key: text[key].to(dtype) if told else None for key in ("resolution", "aspect_ratio")}
        out: Tensor = parts.denoiser(
            noised.to(dtype), encoder_hidden_states=text["hidden"].to(dtype), encoder_attention_mask=text["mask"],
            timestep=t, added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        return out[:, : noised.shape[1]]

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Tell alpha from sigma by the pipeline that the folder names."""
        version = "sigma" if _kind(parts) == SIGMA else "alpha"
        return {
            "ss_base_model_version": f"pixart_{version}",
            "modelspec.architecture": f"pixart-{version}/lora",
            "modelspec.implementation": f"https://github.com/PixArt-alpha/PixArt-{version}",
            "modelspec.prediction_type": "epsilon",
        }

    def tiny(self, pipeline: str = ALPHA) -> Parts:
        """Build a random model of two blocks for 32-pixel pictures."""
        make: Any = diffusers.PixArtTransformer2DModel
        with tiny.seeded():
            components = {
                # 128 is what tells the pipeline to pass the size on.
                "transformer": make(
                    sample_size=128 if pipeline == ALPHA else 64, in_channels=4, out_channels=8, num_layers=2,
                    num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24, caption_channels=16,
                    norm_num_groups=4,
                ),
                "vae": tiny.kl_autoencoder(),
                "text_encoder": tiny.t5_encoder(), "tokenizer": tiny.t5_tokenizer(),
            }  # fmt: skip
        scheduler = {
            "_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 1000, "beta_start": 0.0001,
            "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "epsilon",
        }  # fmt: skip
        parts = self._parts(components, scheduler, None, {"_class_name": pipeline})
        parts.freeze()
        return parts


def _kind(parts: Parts) -> str:
    """Return the pipeline class that the model's index names."""
    return str(parts.settings["_class_name"])


def _is_told_the_size(parts: Parts) -> bool:
    return bool(parts.denoiser.use_additional_conditions)
