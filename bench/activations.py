"""What one block of each base model keeps for the backward pass: `python -m bench.activations [FAMILY ...]`.

Prints the numbers of `Blocks.kept`, `saved` and `factors` in training/engine/profiles.py, and beside them what stands
there. The real classes of diffusers run at full width with one block and with two, on fake tensors that take no memory
and no time; autograd's hooks for saved tensors see what each token leaves, as on a GPU: bf16 weights, an fp32 adapter,
autocast, and an attention that keeps q, k, v and its result (flash attention). The difference between one block and
two, and between two numbers of tokens, is what one block keeps for one token.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from training.engine.profiles import MODELS, TARGETS, Blocks
from training.engine.registry import family_names, load_family

D: Any = diffusers
RANK = 16
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "to_out", "add_k_proj", "add_q_proj", "add_v_proj", "to_add_out",
             "to_qkv_mlp_proj")  # fmt: skip
FEED_FORWARD = ("net.0.proj", "net.2", "linear_in", "linear_out", "feed_forward.w1", "feed_forward.w2",
                "feed_forward.w3")  # fmt: skip
REST = ("proj_mlp", "proj_out")
IN_FP32 = {F.layer_norm, F.group_norm, F.softmax, torch.rsqrt, torch.pow, torch.exp, torch.softmax, torch.sum,
           torch.Tensor.pow, torch.Tensor.rsqrt, torch.Tensor.softmax, torch.Tensor.exp, torch.Tensor.sum,
           torch.Tensor.__pow__}  # fmt: skip
"""What autocast computes in fp32 on a GPU (aten/src/ATen/autocast_mode.h); on a CPU it leaves these in bf16."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Say how a denoiser is made with so many blocks of two kinds, and called with so many tokens of picture and text.

    A UNet is counted as one block.
    """

    build: Callable[[int, int], nn.Module]
    call: Callable[[int, int], dict[str, Any]]
    is_unet: bool = False


def _t(*shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16)


def _square(channels: int, tokens: int, factor: int = 2) -> Tensor:
    side = factor * round(tokens**0.5)
    return _t(1, channels, side, side)


def _time() -> Tensor:
    return torch.empty(1)


def _flux(tokens: int, text: int) -> dict[str, Any]:
    return {
        "hidden_states": _t(1, tokens, 64), "encoder_hidden_states": _t(1, text, 4096), "timestep": _time(),
        "img_ids": torch.zeros(tokens, 3), "txt_ids": torch.zeros(text, 3),
    }  # fmt: skip


def _flux2(width: int) -> Callable[[int, int], dict[str, Any]]:
    return lambda tokens, text: {
        "hidden_states": _t(1, tokens, 128), "encoder_hidden_states": _t(1, text, width), "timestep": _time(),
        "img_ids": torch.zeros(tokens, 4), "txt_ids": torch.zeros(text, 4),
    }  # fmt: skip


def _sd3(tokens: int, text: int) -> dict[str, Any]:
    return {
        "hidden_states": _square(16, tokens), "encoder_hidden_states": _t(1, text, 4096),
        "pooled_projections": _t(1, 2048), "timestep": _time(),
    }  # fmt: skip


def _wan(tokens: int, text: int) -> dict[str, Any]:
    side = 2 * round(tokens**0.5)
    return {"hidden_states": _t(1, 16, 1, side, side), "encoder_hidden_states": _t(1, text, 4096),
            "timestep": torch.tensor([5])}  # fmt: skip


def _side(tokens: int) -> int:
    return round(tokens**0.5)


SD3: dict[str, Any] = {
    "sample_size": 128, "attention_head_dim": 64, "joint_attention_dim": 4096, "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192, "in_channels": 16, "out_channels": 16,
}  # fmt: skip

UNETS: dict[str, dict[str, Any]] = {
    "sd": {
        "cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    },
    "sdxl": {
        "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20], "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip


def _unet(name: str) -> Model:
    width = UNETS[name]["cross_attention_dim"]
    added = (
        {"added_cond_kwargs": {"text_embeds": _t(1, 1280), "time_ids": _t(1, 6)}} if name == "sdxl" else {}
    )

    def call(tokens: int, text: int) -> dict[str, Any]:
        return {"sample": _square(4, tokens, 1), "timestep": torch.tensor([5]),
                "encoder_hidden_states": _t(1, text, width), **added}  # fmt: skip

    return Model(lambda a, b: D.UNet2DConditionModel(**UNETS[name]), call, is_unet=True)


MODELS_HERE: dict[str, Model] = {
    "sd": _unet("sd"), "sdxl": _unet("sdxl"),
    "flux": Model(
        lambda a, b: D.FluxTransformer2DModel(num_layers=a, num_single_layers=b, guidance_embeds=True),
        lambda n, m: {**_flux(n, m), "pooled_projections": _t(1, 768), "guidance": _time()},
    ),
    "chroma": Model(lambda a, b: D.ChromaTransformer2DModel(num_layers=a, num_single_layers=b), _flux),
    "flux2": Model(
        lambda a, b: D.Flux2Transformer2DModel(num_layers=a, num_single_layers=b),
        lambda n, m: {**_flux2(15360)(n, m), "guidance": _time()},
    ),
    "flux2-klein": Model(
        lambda a, b: D.Flux2Transformer2DModel(
            num_layers=a, num_single_layers=b, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        ), _flux2(7680),
    ),
    "sd3": Model(
        lambda a, b: D.SD3Transformer2DModel(
            num_layers=a + b, num_attention_heads=24, caption_projection_dim=1536, qk_norm="rms_norm",
            dual_attention_layers=tuple(range(a)), **SD3
        ), _sd3,
    ),
    "sd3-large": Model(
        lambda a, b: D.SD3Transformer2DModel(
            num_layers=a, num_attention_heads=38, caption_projection_dim=2432, qk_norm="rms_norm", **SD3
        ), _sd3,
    ),
    "qwen-image": Model(
        lambda a, b: D.QwenImageTransformer2DModel(num_layers=a),
        lambda n, m: {
            "hidden_states": _t(1, n, 64), "encoder_hidden_states": _t(1, m, 3584), "timestep": _time(),
            "img_shapes": [(1, _side(n), _side(n))], "encoder_hidden_states_mask": torch.ones(1, m),
        },
    ),
    "z-image": Model(
        lambda a, b: D.ZImageTransformer2DModel(n_layers=a, n_refiner_layers=1),
        lambda n, m: {"x": [_t(16, 1, 2 * _side(n), 2 * _side(n))], "t": _time(), "cap_feats": [_t(m, 2560)]},
    ),
    "sana": Model(
        lambda a, b: D.SanaTransformer2DModel(num_layers=a),
        lambda n, m: {"hidden_states": _square(32, n, 1), "encoder_hidden_states": _t(1, m, 2304), "timestep": _time()},
    ),
    "pixart": Model(
        lambda a, b: D.PixArtTransformer2DModel(
            sample_size=128, cross_attention_dim=1152, caption_channels=4096, num_layers=a,
            use_additional_conditions=False,
        ),
        lambda n, m: {"hidden_states": _square(4, n), "encoder_hidden_states": _t(1, m, 4096), "timestep": _time()},
    ),
    "wan": Model(lambda a, b: D.WanTransformer3DModel(num_layers=a), _wan),
    "wan-1.3b": Model(lambda a, b: D.WanTransformer3DModel(num_layers=a, num_attention_heads=12, ffn_dim=8960), _wan),
    "ltx": Model(
        lambda a, b: D.LTXVideoTransformer3DModel(num_layers=a),
        lambda n, m: {
            "hidden_states": _t(1, n, 128), "encoder_hidden_states": _t(1, m, 4096), "timestep": torch.tensor([5]),
            "encoder_attention_mask": torch.ones(1, m), "num_frames": 1, "height": _side(n), "width": _side(n),
        },
    ),
}  # fmt: skip
"""Lumina 2 reads its text mask on the host and cannot run on fake tensors; it was counted on a narrow real model."""


class Attention(torch.autograd.Function):
    """Keep what flash attention keeps."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = torch.empty(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
        ctx.save_for_backward(query, key, value, result)
        return result


def attention(query: Tensor, key: Tensor, value: Tensor, *ignored: Any, **options: Any) -> Tensor:
    """Stand in for torch's attention, which on a CPU keeps the whole matrix."""
    return Attention.apply(*(x.to(torch.bfloat16) for x in (query, key, value)))


class GpuAutocast(TorchFunctionMode):
    """Compute in fp32 what autocast computes in fp32 on a GPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in IN_FP32:
            args = tuple(_wide(x) for x in args)
            kwargs = {name: _wide(x) for name, x in kwargs.items()}
        return function(*args, **kwargs)


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@contextlib.contextmanager
def fakes() -> Iterator[None]:
    """Run on fake tensors: no random numbers, no swapping of a module's tensors, and attention as above."""

    def replaced(module: nn.Module, function: Any, recurse: bool = True) -> nn.Module:
        for child in module.children():
            child._apply(function)
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = function(buffer)
        return module

    untouched: Any = lambda tensor, *args, **kwargs: tensor  # noqa: E731
    patches: list[tuple[Any, str, Any]] = [
        (nn.Module, "_apply", replaced),
        (F, "scaled_dot_product_attention", attention),
    ]
    patches += [(torch.Tensor, name, untouched) for name in ("uniform_", "normal_")]
    patches += [
        (nn.init, name, untouched) for name in ("kaiming_uniform_", "xavier_uniform_", "normal_", "uniform_")
    ]
    patches.append((torch, "randn", lambda *shape, generator=None, **kwargs: torch.empty(*shape, **kwargs)))
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
        torch.set_default_dtype(torch.float32)


@dataclasses.dataclass(frozen=True)
class Counted:
    """Give bytes kept for the backward pass, and weights and layers of the adapter."""

    bytes: int
    factors: int
    layers: int


def run(model: Model, blocks: tuple[int, int], tokens: tuple[int, int], endings: tuple[str, ...],
        checkpointing: bool = False) -> Counted:  # fmt: skip
    """Build a model with an adapter, run it forward once, and count."""
    with fakes():
        torch.set_default_dtype(torch.bfloat16)
        module: Any = model.build(*blocks)
        torch.set_default_dtype(torch.float32)
        module.requires_grad_(False)
        names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
                 and any(f".{name}".endswith(f".{end}") for end in endings)]  # fmt: skip
        pattern = "|".join(map(re.escape, names))
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=pattern), module)
        factors = 0
        for name, part in module.named_modules():
            if ".lora_" in name and name.endswith(".default"):
                part.to(torch.float32).requires_grad_(True)
                factors += sum(p.numel() for p in part.parameters())
        module.train()
        if checkpointing:
            module.enable_gradient_checkpointing()
        frozen = {p.untyped_storage()._cdata for p in module.parameters()}
        kept: dict[int, Any] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in frozen:
                kept[storage._cdata] = storage
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.autocast("cpu", dtype=torch.bfloat16), GpuAutocast(), hooks:
            module(**model.call(*tokens), return_dict=False)
        return Counted(sum(storage.nbytes() for storage in kept.values()), factors // RANK, len(names))


def per_block(model: Model, endings: tuple[str, ...], kind: int = 0, checkpointing: bool = False) -> Counted:
    """Return what one more block of a kind keeps for one more token of the picture, and its part of the adapter."""
    small, large = 256, 1024
    if model.is_unet:
        less, more = (run(model, (1, 1), (tokens, 64), endings, checkpointing) for tokens in (small, large))
        return Counted((more.bytes - less.bytes) // (large - small), less.factors, less.layers)
    shapes = {1: (1, 1), 2: (2, 1) if kind == 0 else (1, 2)}
    found = {
        (blocks, tokens): run(model, shapes[blocks], (tokens, 64), endings, checkpointing)
        for blocks in shapes for tokens in (small, large)
    }  # fmt: skip
    grown = {blocks: found[blocks, large].bytes - found[blocks, small].bytes for blocks in shapes}
    one, two = found[1, small], found[2, small]
    return Counted(
        (grown[2] - grown[1]) // (large - small), two.factors - one.factors, two.layers - one.layers
    )


def endings_of(name: str, targets: str) -> tuple[str, ...]:
    """Return the layers of a set: the registered family's own, else the usual ones."""
    family = next((f for f in sorted(family_names(), key=len, reverse=True) if name.startswith(f)), None)
    if family is not None and (family == name or name.startswith(f"{family}-")):
        return tuple(load_family(family).presets[targets]["denoiser"])
    return {"attn": ATTENTION, "attn-mlp": ATTENTION + FEED_FORWARD}.get(
        targets, ATTENTION + FEED_FORWARD + REST
    )


def count(name: str) -> list[Blocks]:
    """Return the blocks of a profile with everything that is counted here as it is now."""
    model, counted = MODELS_HERE[name], []
    for kind, group in enumerate(MODELS[name].blocks):
        sets = [per_block(model, endings_of(name, targets), kind) for targets in TARGETS]
        saved = per_block(model, endings_of(name, "attn-mlp"), kind, checkpointing=True)
        kept = [round(each.bytes / 2 / group.width, 1) for each in sets]
        factors = [round(each.factors / group.width, 1) for each in sets]
        now = dataclasses.replace(
            group, kept=tuple(kept), factors=tuple(factors), layers=tuple(each.layers for each in sets),
            saved=round(saved.bytes / 2 / group.width, 1),
        )  # fmt: skip
        counted.append(now)
    return counted


def differs(group: Blocks, now: Blocks) -> bool:
    """Tell whether anything that was counted is off by more than 2 %."""
    pairs = zip(
        (*group.kept, *group.factors, *group.layers, group.saved),
        (*now.kept, *now.factors, *now.layers, now.saved),
        strict=True,
    )
    return any(abs(a - b) > 0.02 * max(a, b) for a, b in pairs)


def main() -> int:
    """Print what is counted beside what stands in the profiles; return how many blocks differ."""
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    differing = 0
    for name in sys.argv[1:] or MODELS_HERE:
        for group, now in zip(MODELS[name].blocks, count(name), strict=True):
            differing += differs(group, now)
            line = f"{name:14} kept {now.kept} factors {now.factors} layers {now.layers} saved {now.saved}"
            print(line + ("  <- not what the profile says" if differs(group, now) else ""), flush=True)
    return differing


if __name__ == "__main__":
    sys.exit(main())
