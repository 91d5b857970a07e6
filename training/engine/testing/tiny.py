"""Components of tiny base models: tokenizers made from a dict, random encoders, autoencoders of a few channels."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
import transformers

# Their annotations do not hold under a strict check.
D: Any = diffusers
T: Any = transformers

LENGTH = 24
"""Tokens of the longest prompt of a tiny CLIP."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Draw the weights built inside from a seed, and leave torch's own state as it was."""
    saved = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(saved)


def _letters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def clip_tokenizer() -> Any:
    """Build a byte-level CLIP tokenizer of 514 tokens."""
    letters = _letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return T.CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=LENGTH
    )


def clip_text_encoder(*, projection: bool = False, width: int = 16) -> Any:
    """Build a CLIP text encoder of two layers, (B, 24) tokens to (B, 24, width)."""
    config = T.CLIPTextConfig(
        vocab_size=514, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, bos_token_id=512, eos_token_id=513, pad_token_id=513, projection_dim=width,
    )  # fmt: skip
    return (T.CLIPTextModelWithProjection if projection else T.CLIPTextModel)(config)


def t5_tokenizer() -> Any:
    """Build a T5 tokenizer of single characters."""
    letters = "▁" + string.printable.strip()
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in letters)]
    return T.T5Tokenizer(vocab=vocabulary, extra_ids=0)


def t5_encoder(width: int = 16, *, multilingual: bool = False) -> Any:
    """Build a T5 (or UMT5) encoder of two layers, (B, L) tokens to (B, L, width)."""
    config_class, model = (
        (T.UMT5Config, T.UMT5EncoderModel) if multilingual else (T.T5Config, T.T5EncoderModel)
    )
    return model(
        config_class(vocab_size=128, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2)
    )


def qwen_tokenizer() -> Any:
    """Build a byte-level Qwen2 tokenizer with a chat template."""
    tokens = [*_letters(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = T.Qwen2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def gemma_tokenizer() -> Any:
    """Build a Gemma tokenizer of characters and pairs of small letters; each text begins with ``<bos>``.

    The pairs halve the length of the instructions that some models put before a prompt.
    """
    letters = string.ascii_lowercase
    pairs = [(one, two) for one in letters for two in letters]
    single = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *string.printable.strip()]
    tokens = [*single, *(f"<0x{i:02X}>" for i in range(256)), *map("".join, pairs)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return T.GemmaTokenizer(vocab=vocabulary, merges=pairs, add_bos_token=True)


def gemma2_model(width: int = 16, *, layers: int = 2) -> Any:
    """Build a Gemma 2 of so many layers and heads."""
    return T.Gemma2Model(T.Gemma2Config(
        vocab_size=1200, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=layers, num_key_value_heads=1, head_dim=8,
    ))  # fmt: skip


def kl_autoencoder(channels: int = 4, *, scaling: float = 0.75, shift: float | None = None) -> Any:
    """Build an AutoencoderKL that makes pictures four times smaller."""
    return D.AutoencoderKL(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=channels, norm_num_groups=4, sample_size=32,
        layers_per_block=1, scaling_factor=scaling, shift_factor=shift, mid_block_add_attention=False,
        use_quant_conv=shift is None, use_post_quant_conv=shift is None,
    )  # fmt: skip


def dc_autoencoder(channels: int) -> Any:
    """Build an AutoencoderDC that makes pictures four times smaller."""
    blocks, widths, scales = ("ResBlock", "ResBlock", "EfficientViTBlock"), (8, 8, 16), ((), (), (5,))
    return D.AutoencoderDC(
        latent_channels=channels, attention_head_dim=4, encoder_block_types=blocks, decoder_block_types=blocks,
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1), encoder_qkv_multiscales=scales, decoder_qkv_multiscales=scales,
        scaling_factor=0.41407,
    )  # fmt: skip


def ltx_autoencoder(channels: int, *, told_the_noise: bool = False) -> Any:
    """Build an AutoencoderKLLTXVideo that makes clips 4 x 4 x 4 times smaller."""
    widths, scaled = (8, 8, 8, 8), (True, True, False, False)
    vae = D.AutoencoderKLLTXVideo(
        latent_channels=channels, block_out_channels=widths, decoder_block_out_channels=widths,
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1), spatio_temporal_scaling=scaled,
        decoder_spatio_temporal_scaling=scaled, patch_size=1, patch_size_t=1, timestep_conditioning=told_the_noise,
    )  # fmt: skip
    vae.latents_mean = torch.linspace(-0.3, 0.3, channels)
    vae.latents_std = torch.linspace(0.5, 1.5, channels)
    return vae


def wan_autoencoder(channels: int, *, patched: bool = False) -> Any:
    """Build an AutoencoderKLWan that makes clips 4 x 8 x 8 times smaller; ``patched`` 4 x 16 x 16, as Wan 2.2's."""
    more = {
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    }
    return D.AutoencoderKLWan(
        base_dim=8, z_dim=channels, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=torch.linspace(-0.3, 0.3, channels).tolist(),
        latents_std=torch.linspace(0.5, 1.5, channels).tolist(), **(more if patched else {}),
    )  # fmt: skip


def flow_scheduler(**options: Any) -> dict[str, Any]:
    """Return the config of a flow-matching Euler scheduler."""
    return {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, **options}


def ddim_scheduler(prediction_type: str = "epsilon") -> dict[str, Any]:
    """Return the config of Stable Diffusion's noise schedule; zero terminal SNR for v-prediction."""
    return {
        "_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": prediction_type, "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "rescale_betas_zero_snr": prediction_type == "v_prediction",
        "timestep_spacing": "trailing" if prediction_type == "v_prediction" else "leading",
    }  # fmt: skip


def multistep_scheduler(flow_shift: float) -> dict[str, Any]:
    """Return the config of a multistep solver for flow matching, as Sana's and Wan's folders have it."""
    return {
        "_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 1000, "flow_shift": flow_shift,
        "prediction_type": "flow_prediction", "use_flow_sigmas": True,
    }  # fmt: skip
