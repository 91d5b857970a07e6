"""Stable Diffusion 1.x and 2.x: CLIP, UNet2DConditionModel, AutoencoderKL; eps or v by the scheduler's config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from training.engine.diffusion import NoiseProcess, Objective
from training.engine.errors import ConfigurationError
from training.engine.families.base import ExportNames, Parts, TextRow

# Their annotations do not hold under a strict check.
AutoencoderKL: Any = diffusers.AutoencoderKL
DDIMScheduler: Any = diffusers.DDIMScheduler
UNet2DConditionModel: Any = diffusers.UNet2DConditionModel
CLIPTextConfig: Any = transformers.CLIPTextConfig
CLIPTextModel: Any = transformers.CLIPTextModel
CLIPTokenizer: Any = transformers.CLIPTokenizer

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

OBJECTIVES: dict[str, Objective] = {"epsilon": "eps", "v_prediction": "v"}


def kohya_path(part: str, module: str) -> str:
    """Return the module path of the file format: CLIP keeps the ``text_model.`` that newer transformers dropped."""
    if part == "text_encoder" and not module.startswith("text_model."):
        return "text_model." + module
    return module


class StableDiffusion:
    """Train Stable Diffusion 1.x and 2.x and every model of their architecture."""

    name = "sd"
    title = "Stable Diffusion 1.x / 2.x"
    divisor = 8
    presets: Mapping[str, Mapping[str, Sequence[str]]] = {
        "attn": {"denoiser": ATTENTION, "text_encoder": CLIP_ATTENTION},
        "attn-mlp": {"denoiser": ATTENTION + MLP, "text_encoder": CLIP_ATTENTION + CLIP_MLP},
        "all": {"denoiser": ATTENTION + MLP + CONVOLUTIONS, "text_encoder": CLIP_ATTENTION + CLIP_MLP},
    }
    export_names = ExportNames({"denoiser": "lora_unet", "text_encoder": "lora_te"}, kohya_path)

    def load(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> Parts:
        """Load all parts from a diffusers folder; raise ConfigurationError if one is missing."""
        for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
            if not (folder / part).is_dir():
                raise ConfigurationError(
                    "base_model_incomplete",
                    f"the base model has no {part!r} folder",
                    hint="Give the folder of a Stable Diffusion model in diffusers layout (model_index.json inside).",
                )
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        parts = Parts(
            denoiser=self.load_denoiser(folder, device=device, dtype=dtype),
            vae=_from_folder(AutoencoderKL, folder / "vae", torch.float32, low_cpu_mem_usage=False).to(
                device
            ),
            text_encoder=_from_folder(CLIPTextModel, folder / "text_encoder", torch.float32).to(device),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            scheduler_config=config,
            process=noise_process(config),
            folder=folder,
        )
        parts.freeze()
        return parts

    def load_denoiser(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Load the UNet alone."""
        unet: nn.Module = _from_folder(UNet2DConditionModel, folder / "unet", dtype, low_cpu_mem_usage=False)
        return unet.to(device).requires_grad_(False).eval()

    def save(self, parts: Parts, folder: Path) -> None:
        """Write a diffusers folder with fp32 weights."""
        parts.denoiser.save_pretrained(folder / "unet")  # type: ignore[operator]
        parts.vae.save_pretrained(folder / "vae")  # type: ignore[operator]
        parts.text_encoder.save_pretrained(folder / "text_encoder")  # type: ignore[operator]
        parts.tokenizer.save_pretrained(folder / "tokenizer")
        DDIMScheduler.from_config(parts.scheduler_config).save_pretrained(folder / "scheduler")
        index = {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": [None, None],
            "feature_extractor": [None, None], "requires_safety_checker": False,
        }  # fmt: skip
        (folder / "model_index.json").write_text(json.dumps(index, indent=2))

    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Return the last hidden state (L, D) of each prompt, padded to the model's length."""
        tokens = parts.tokenizer(
            list(prompts), padding="max_length", max_length=parts.tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        device = next(parts.text_encoder.parameters()).device
        hidden = parts.text_encoder(tokens.input_ids.to(device)).last_hidden_state
        return [{"hidden": row} for row in hidden]

    def collate_text(self, rows: Sequence[TextRow]) -> TextRow:
        """Stack to (B, L, D)."""
        return {"hidden": torch.stack([row["hidden"] for row in rows])}

    def encode_image(self, parts: Parts, pixels: Tensor) -> Tensor:
        """Return the mode of the posterior, scaled: the same picture always has the same latents."""
        config: Any = parts.vae.config
        latents: Tensor = parts.vae.encode(pixels).latent_dist.mode()  # type: ignore[operator]
        shift = getattr(config, "shift_factor", None) or 0.0
        latents -= shift
        return latents.mul_(config.scaling_factor)

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo the scaling and decode."""
        config: Any = parts.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        pixels: Tensor = parts.vae.decode(latents / config.scaling_factor + shift).sample  # type: ignore[operator]
        return pixels

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return (C, H / f, W / f)."""
        config: Any = parts.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        return (config.latent_channels, height // factor, width // factor)

    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Call the UNet with whole timesteps."""
        dtype = next(iter(parts.denoiser.parameters())).dtype
        out: Tensor = parts.denoiser(noised.to(dtype), t, text["hidden"].to(dtype), return_dict=False)[0]
        return out

    def sampler(self, parts: Parts, steps: int) -> Any:
        """Build DDIM from the model's own schedule (spacing, zero SNR and prediction type as configured)."""
        # DDIM's default of clipping is wrong for latents; the pipeline switches it off likewise.
        scheduler = DDIMScheduler.from_config(parts.scheduler_config, clip_sample=False)
        scheduler.set_timesteps(steps)
        return scheduler

    def cache_identity(self, folder: Path) -> Mapping[str, Sequence[Path]]:
        """Return the VAE's files for latents, the text encoder's and tokenizer's for text."""
        return {"latents": [folder / "vae"], "text": [folder / "text_encoder", folder / "tokenizer"]}

    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Tell 1.x from 2.x by the width of the text embedding, v from eps by the scheduler."""
        config: Any = parts.denoiser.config
        second = config.cross_attention_dim == 1024
        v = parts.process.objective == "v"
        architecture = (
            "stable-diffusion-v1" if not second else f"stable-diffusion-v2-{'768-v' if v else '512'}"
        )
        return {
            "ss_v2": str(second),
            "ss_base_model_version": ("sd_v2_v" if v else "sd_v2") if second else "sd_v1",
            "modelspec.architecture": f"{architecture}/lora",
            "modelspec.implementation": "diffusers",
            "modelspec.prediction_type": "v" if v else "epsilon",
        }

    def tiny(self, prediction_type: str = "epsilon") -> Parts:
        """Build a random model of 0.2 M parameters for 32-pixel pictures, with a tokenizer made from a dict."""
        saved = torch.random.get_rng_state()
        torch.manual_seed(0)
        try:
            unet = UNet2DConditionModel(
                sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
            )  # fmt: skip
            vae = AutoencoderKL(
                block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, sample_size=32,
                layers_per_block=1, scaling_factor=0.75, mid_block_add_attention=False,
            )  # fmt: skip
            encoder = CLIPTextModel(CLIPTextConfig(
                vocab_size=514, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=24, bos_token_id=512, eos_token_id=513, pad_token_id=513,
            ))  # fmt: skip
        finally:
            torch.random.set_rng_state(saved)
        config = {
            "_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "prediction_type": prediction_type, "clip_sample": False,
            "set_alpha_to_one": False, "steps_offset": 1, "rescale_betas_zero_snr": prediction_type == "v_prediction",
            "timestep_spacing": "trailing" if prediction_type == "v_prediction" else "leading",
        }  # fmt: skip
        parts = Parts(unet, vae, encoder, tiny_tokenizer(), config, noise_process(config))
        parts.freeze()
        return parts


def noise_process(config: Mapping[str, Any]) -> NoiseProcess:
    """Read schedule and prediction type from a scheduler config; raise ConfigurationError for an unknown type."""
    kind = config.get("prediction_type", "epsilon")
    if kind not in OBJECTIVES:
        raise ConfigurationError(
            "unknown_prediction", f"prediction type {kind!r} of the base model is not supported"
        )
    return NoiseProcess(DDIMScheduler.from_config(dict(config)).alphas_cumprod.float(), OBJECTIVES[kind])


def tiny_tokenizer() -> Any:
    """Build a byte-level CLIP tokenizer of 514 tokens from a dict."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=24)


def _from_folder(cls: Any, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """Load one part, safetensors only; its fp16 variant where it was saved with `variant="fp16"` alone."""
    files = [path.name for path in folder.glob("*.safetensors")]
    variant = "fp16" if files and all(".fp16" in name for name in files) else None
    return cls.from_pretrained(
        folder, dtype=dtype, variant=variant, local_files_only=True, use_safetensors=True, **options
    )
