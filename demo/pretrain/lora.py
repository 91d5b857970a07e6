"""Train one LoRA with peft and judge it: python lora.py DEMO_FOLDER KEY OUT.png [--steps 100 --rank 8 --lr 1e-3 ...]

OUT.png shows three rows: LoRA off, LoRA on, and the real picture where the held-out set has one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from measure import (
    content_found,
    content_ranks,
    encode_text,
    fixed_losses,
    read_pictures,
    shape_agreement,
    style_distance,
)  # fmt: skip
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image

TARGETS = {
    "attention": ["to_q", "to_k", "to_v", "to_out.0"],
    "attention+ff": ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"],
    "all": ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
            "conv1", "conv2", "conv_shortcut", "conv_in", "conv_out", "time_emb_proj"],
}  # fmt: skip


def set_lora(unet: torch.nn.Module, on: bool) -> None:
    """Switch the adapter on or off."""
    for module in unet.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)


def draw(
    pipe: StableDiffusionPipeline, prompts: list[str], seed: int, steps: int, scale: float
) -> torch.Tensor:
    """Draw one picture a prompt, every one with the same seed: (B, 3, 64, 64) in [-1, 1]."""
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    arrays = pipe(
        prompts, num_inference_steps=steps, guidance_scale=scale, generator=generators, output_type="np"
    ).images
    return torch.from_numpy(arrays).permute(0, 3, 1, 2) * 2 - 1


def sheet(rows: list[torch.Tensor], out: Path, zoom: int = 1) -> None:
    """Save rows of pictures as one PNG."""
    lines = [torch.cat([p.clamp(-1, 1) for p in row], 2) for row in rows]
    picture = torch.cat(lines, 1).permute(1, 2, 0).numpy()
    image = Image.fromarray(((picture + 1) * 127.5).round().astype(np.uint8))
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(out, optimize=True)


def train(pipe: StableDiffusionPipeline, folder: Path, options: argparse.Namespace) -> float:
    """Train the adapter on a style folder and give the seconds it took."""
    pictures, captions = read_pictures(folder)
    with torch.no_grad():
        latents = pipe.vae.encode(pictures).latent_dist.mode()
    states, empty = encode_text(pipe, captions), encode_text(pipe, [""])
    parameters = [p for p in pipe.unet.parameters() if p.requires_grad]
    print(f"{sum(p.numel() for p in parameters)} trained parameters")
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.01)
    alphas, rng = pipe.scheduler.alphas_cumprod, np.random.default_rng(0)
    torch.manual_seed(0)
    began, order = time.time(), []
    for step in range(options.steps):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 10)
            group["lr"] = (
                options.lr
                * warm
                * (0.5 * (1 + np.cos(np.pi * step / options.steps)) if options.cosine else 1)
            )
        while len(order) < options.batch:
            order += rng.permutation(len(latents)).tolist()
        pick, order = order[: options.batch], order[options.batch :]
        times = torch.randint(0, 1000, (options.batch,))
        clean, noise = latents[pick], torch.randn(options.batch, 4, 16, 16)
        keep = torch.rand(options.batch, 1, 1) > 0.1
        signal, spread = (
            alphas[times].sqrt()[:, None, None, None],
            (1 - alphas[times]).sqrt()[:, None, None, None],
        )
        guess = pipe.unet(
            signal * clean + spread * noise, times, torch.where(keep, states[pick], empty), return_dict=False
        )[0]
        loss = (guess - (signal * noise - spread * clean)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.time() - began


def main() -> None:
    """Train, draw, measure, and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("demo", type=Path)
    parser.add_argument("key")
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--targets", choices=list(TARGETS), default="all")
    parser.add_argument("--cosine", action="store_true")
    parser.add_argument("--scale", type=float, default=2.5)
    parser.add_argument("--ranks", action="store_true", help="also classify the pictures, about a minute")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = options.sets or options.demo
    pipe = StableDiffusionPipeline.from_pretrained(options.demo / "base", safety_checker=None).to(
        torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.requires_grad_(False)
    style, _ = read_pictures(sets / "styles" / options.key)
    real, captions = read_pictures(sets / "heldout" / options.key)
    kept_out = [
        p.split(",")[0]
        for p in json.loads((sets / "styles" / options.key / "style.json").read_text())["prompts"]
    ]
    trigger = f", {options.key} style"
    held = [caption.split(",")[0] for caption in captions]
    subjects = held + [s for s in kept_out if s not in held]
    prompts = [s + trigger for s in subjects]

    def held_out_loss() -> float:
        with torch.no_grad():
            latents = pipe.vae.encode(real).latent_dist.mode()
        return float(fixed_losses(pipe, latents, encode_text(pipe, captions)).mean())

    plain = draw(pipe, subjects, 0, 25, options.scale)
    other_seed = draw(pipe, subjects, 1000, 25, options.scale)
    off = draw(pipe, prompts, 0, 25, options.scale)
    before = held_out_loss()
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.rank,
        target_modules=TARGETS[options.targets],
        init_lora_weights=True,
    )
    inject_adapter_in_model(config, pipe.unet)
    seconds = train(pipe, sets / "styles" / options.key, options)
    pipe.unet.eval()
    on, after = draw(pipe, prompts, 0, 25, options.scale), held_out_loss()
    set_lora(pipe.unet, False)
    blank = torch.ones_like(real[:1]).expand(len(on) - len(real), -1, -1, -1)
    sheet([plain, off, on, torch.cat([real, blank])], options.out)
    result = {
        "key": options.key, "seconds": round(seconds, 1), "loss": [round(before, 3), round(after, 3)],
        "style_distance": [round(style_distance(x, style, torch.cat([plain, style])), 2) for x in (off, on, real)],
        "shape": [round(float(shape_agreement(x, plain).mean()), 2) for x in (off, on)],
        "content_found": [content_found(x, plain) for x in (off, on)],
        "content_found_other_seed": [content_found(x, other_seed) for x in (off, on)],
        "shape_of_shuffled": round(float(shape_agreement(on, plain.roll(1, 0)).mean()), 2),
    }  # fmt: skip
    if options.ranks:
        names = [s.split(" ", 1)[1] for s in subjects]
        for label, x in (("off", off), ("on", on), ("real", real)):
            ranks = content_ranks(pipe, x, names[: len(x)], names, ("", "sketch"))
            result[f"content_{label}"] = {
                "first": sum(r == 0 for r in ranks),
                "of": len(ranks),
                "median": sorted(ranks)[len(ranks) // 2],
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
