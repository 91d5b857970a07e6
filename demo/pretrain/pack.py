"""Pack a diffusers folder in fp16: python pack.py WORK_FOLDER OUT_FOLDER

The latents' mean and std are folded into quant_conv and post_quant_conv, so that latents come out of the encoder with
mean 0 and deviation 1, and scaling_factor 1.0 is exact.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from networks import build_scheduler, build_text_encoder, build_unet, build_vae
from transformers import CLIPTokenizer


@torch.no_grad()
def fold(vae: AutoencoderKL, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Fold z -> (z - mean) / std behind the encoder and its inverse before the decoder; fix the log-variance at -12."""
    front, back = vae.quant_conv, vae.post_quant_conv
    front.weight[:4] /= std[:, None, None, None]
    front.bias[:4] = (front.bias[:4] - mean) / std
    front.weight[4:] = 0
    front.bias[4:] = -12.0
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= std[None, :, None, None]


def load_pipeline(work: Path) -> StableDiffusionPipeline:
    """Load the averaged weights of a work folder as a float32 pipeline."""
    made = torch.load(work / "unet.pt", weights_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    vae, unet = build_vae(), build_unet()
    text = build_text_encoder(
        len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )
    decoder = work / "vae_decoder.pt"
    vae.load_state_dict(torch.load(decoder if decoder.exists() else work / "vae.pt", weights_only=True))
    fold(vae, made["mean"], made["std"])
    both = torch.nn.ModuleDict({"unet": unet, "text": text})
    both.load_state_dict(made["average"])
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def main(work: Path, out: Path) -> None:
    """Write the folder and print its size."""
    pipeline = load_pipeline(work).to(torch.float16)
    pipeline.save_pretrained(out, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, out / "tokenizer" / name)
    for file in out.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
