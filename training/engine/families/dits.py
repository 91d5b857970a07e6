"""What diffusion transformers share: names of their layers, and the file layout that most programs read for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from training.engine.export.table import ExportTable, Place, same_path
from training.engine.families.base import TextRow

TIMESTEPS = 1000.0
"""What sigma 1 is to those transformers that do not take sigma itself."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
JOINT_ATTENTION = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
MLP = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")

FLUX_ATTENTION = {
    "attn.to_q": Place("img_attn.qkv", 0, 3), "attn.to_k": Place("img_attn.qkv", 1, 3),
    "attn.to_v": Place("img_attn.qkv", 2, 3), "attn.to_out.0": Place("img_attn.proj"),
    "attn.add_q_proj": Place("txt_attn.qkv", 0, 3), "attn.add_k_proj": Place("txt_attn.qkv", 1, 3),
    "attn.add_v_proj": Place("txt_attn.qkv", 2, 3), "attn.to_add_out": Place("txt_attn.proj"),
}  # fmt: skip
"""Attention of a block of pictures and text, in the names of the original FLUX.1 and FLUX.2."""


def presets(
    attention: Sequence[str], mlp: Sequence[str], rest: Sequence[str] = ()
) -> dict[str, dict[str, Sequence[str]]]:
    """Return the three presets of a denoiser from the endings of its layers' names."""
    return {
        "attn": {"denoiser": tuple(attention)},
        "attn-mlp": {"denoiser": (*attention, *mlp)},
        "all": {"denoiser": (*attention, *mlp, *rest)},
    }


def unpadded(hidden: Tensor, mask: Tensor) -> list[TextRow]:
    """Return encoded prompts (B, L, D) cut to their own length, each with a mask of ones.

    ``mask`` (B, L) is 1 for text, which comes first, and 0 for padding; collating rows fills up both with zeros.
    """
    lengths = mask.sum(1).tolist()
    return [
        {"hidden": row[:length], "mask": torch.ones(length, device=row.device)}
        for row, length in zip(hidden, lengths, strict=True)
    ]


def with_mask(batch: TextRow, rows: Sequence[TextRow], name: str = "hidden") -> TextRow:
    """Return a batch and, where its rows are of different lengths, which of its tokens are text: ``mask`` (B, L)."""
    lengths = torch.tensor([row[name].shape[0] for row in rows])
    longest = int(lengths.max())
    if bool((lengths == longest).all()):
        return batch
    mask = torch.arange(longest)[None] < lengths[:, None]
    return {**batch, "mask": mask.to(batch[name].device)}


def as_long_as(one: Tensor, other: Tensor) -> Tensor:
    """Return ``other`` with the lengths that ``one`` has along the last dimension; vectors of zeros stay so."""
    wanted, own = (torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (one, other))
    scaled: Tensor = other * (wanted / own.clamp_min(torch.finfo(own.dtype).tiny))
    return scaled


def told_guidance(text: TextRow, like: Tensor) -> Tensor:
    """Return the guidance that a denoiser is told (B,): what drawing gives it, 1 in training.

    The distilled guidance is trained at 1; the usual 3.5 or 4 is for drawing.
    """
    return text["guidance"] if "guidance" in text else torch.ones(like.shape[0], device=like.device)


PEFT = ExportTable("peft", {"denoiser": "transformer"}, dtype="bf16")
"""``transformer.<diffusers path>``: read by diffusers, and by ComfyUI for most diffusion transformers."""


def comfy(place: Callable[[str, str], Place | None] = same_path) -> ExportTable:
    """Return the layout ``diffusion_model.<original path>``, for models whose diffusers names ComfyUI does not know."""
    return ExportTable("comfy", {"denoiser": "diffusion_model"}, place, dtype="bf16")
