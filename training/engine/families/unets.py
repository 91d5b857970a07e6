"""What the UNets of Stable Diffusion share: the layers that are adapted, and kohya's names for them."""

from __future__ import annotations

import re

from training.engine.export.table import Place

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = (
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
)
CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
CLIP_MLP = ("mlp.fc1", "mlp.fc2")


def clip_path(module: str) -> str:
    """Return a CLIP module's path in files, which keep the ``text_model.`` that newer transformers dropped."""
    return module if module.startswith("text_model.") else "text_model." + module


def diffusers_place(part: str, module: str) -> Place:
    """Keep diffusers' block names, as kohya's files of Stable Diffusion 1.x and 2.x do."""
    return Place(module if part == "denoiser" else clip_path(module))


RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
LAYERS = 2
"""Residual blocks per level of SDXL's encoder."""


def sgm_path(module: str) -> str:
    """Return the path of an SDXL UNet module in the original model, which kohya's files and A1111 name.

    Numbers: sd-scripts library/sdxl_original_unet.py; the encoder's level i has blocks 3i + 1 to 3i + 3, the decoder's
    3i to 3i + 2.
    """
    if found := re.fullmatch(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", module):
        level, kind, block, rest = int(found[1]), found[2], int(found[3]), found[4]
        return f"input_blocks.{(LAYERS + 1) * level + block + 1}.{_inner(kind, rest)}"
    if found := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv", module):
        return f"input_blocks.{(LAYERS + 1) * (int(found[1]) + 1)}.0.op"
    if found := re.fullmatch(r"mid_block\.resnets\.(\d+)\.(.+)", module):
        return f"middle_block.{2 * int(found[1])}.{RESNET.get(found[2], found[2])}"
    if found := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", module):
        return f"middle_block.1.{found[1]}"
    if found := re.fullmatch(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", module):
        level, kind, block, rest = int(found[1]), found[2], int(found[3]), found[4]
        return f"output_blocks.{(LAYERS + 1) * level + block}.{_inner(kind, rest)}"
    if found := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv", module):
        # Both levels of SDXL that grow have attention, which is number 1 of their last block.
        return f"output_blocks.{(LAYERS + 1) * int(found[1]) + LAYERS}.2.conv"
    return OUTER.get(module, module)


OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def _inner(kind: str, rest: str) -> str:
    return f"0.{RESNET.get(rest, rest)}" if kind == "resnets" else f"1.{rest}"


def sgm_place(part: str, module: str) -> Place:
    """Place modules of SDXL."""
    return Place(sgm_path(module) if part == "denoiser" else clip_path(module))
