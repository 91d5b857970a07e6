"""Measure whether a LoRA learnt a style and kept the content. Pictures are (B, 3, 64, 64) in [-1, 1] throughout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from PIL import Image

PROBE_TIMES = (100, 300, 500, 700, 900)


def read_pictures(folder: Path) -> tuple[torch.Tensor, list[str]]:
    """Read the pictures of a folder at 64 px with their captions, in name order."""
    files = sorted(folder.glob("*.png"))
    arrays = [
        np.asarray(Image.open(f).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)) for f in files
    ]
    pictures = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pictures, [f.with_suffix(".txt").read_text().strip() for f in files]


@torch.no_grad()
def encode_text(pipe: StableDiffusionPipeline, captions: list[str]) -> torch.Tensor:
    """Encode captions to states (B, 24, 128)."""
    ids = pipe.tokenizer(
        captions, padding="max_length", truncation=True, max_length=24, return_tensors="pt"
    ).input_ids
    return pipe.text_encoder(ids).last_hidden_state


@torch.no_grad()
def fixed_losses(
    pipe: StableDiffusionPipeline,
    latents: torch.Tensor,
    states: torch.Tensor,
    times: tuple[int, ...] = PROBE_TIMES,
    seed: int = 7,
) -> torch.Tensor:
    """Give the v-prediction loss of each latent (B, 4, 16, 16) under its states: (B,), same noise on every call."""
    alphas, total = pipe.scheduler.alphas_cumprod, torch.zeros(len(latents))
    for i, time in enumerate(times):
        noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed + i))[None]
        signal, spread = alphas[time].sqrt(), (1 - alphas[time]).sqrt()
        guess = pipe.unet(signal * latents + spread * noise, time, states, return_dict=False)[0]
        total += (guess - (signal * noise - spread * latents)).square().mean((1, 2, 3)) / len(times)
    return total


@torch.no_grad()
def content_ranks(
    pipe: StableDiffusionPipeline,
    pictures: torch.Tensor,
    names: list[str],
    candidates: list[str],
    styles: tuple[str, ...],
    times: tuple[int, ...] = (300, 500, 700),
) -> list[int]:
    """Rank each picture's own name among the candidates by the base's denoising loss, the LoRA being OFF; 0 is best.

    For each candidate the least loss over the known styles counts, so that a line drawing may pass as a sketch.
    """
    latents = pipe.vae.encode(pictures).latent_dist.mode() * pipe.vae.config.scaling_factor
    table = []
    for style in styles:
        states = encode_text(pipe, [f"a {name}{f', {style} style' if style else ''}" for name in candidates])
        rows = [
            fixed_losses(pipe, z[None].expand(len(candidates), -1, -1, -1), states, times) for z in latents
        ]
        table.append(torch.stack(rows))
    losses = torch.stack(table).amin(0)
    own = torch.tensor([candidates.index(name) for name in names])
    return [int((row < row[k]).sum()) for row, k in zip(losses, own, strict=True)]


def shape_maps(pictures: torch.Tensor) -> torch.Tensor:
    """Map pictures to edge strength in any colour, blurred to 4 px, each map with mean 0 and norm 1: (B, 256)."""
    dx = F.pad((pictures[..., 1:] - pictures[..., :-1]), (0, 1)).square()
    dy = F.pad((pictures[..., 1:, :] - pictures[..., :-1, :]), (0, 0, 0, 1)).square()
    edge = (dx + dy).sum(1, keepdim=True).sqrt()
    edge = edge / edge.mean((2, 3), keepdim=True).clamp_min(1e-4)
    soft = F.avg_pool2d(edge.clamp_max(4), 8, stride=4, padding=2, count_include_pad=False).flatten(1)
    soft = soft - soft.mean(1, keepdim=True)
    return soft / soft.norm(dim=1, keepdim=True).clamp_min(1e-6)


def shape_agreement(made: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Correlate the blurred edges of two picture lists, pair by pair: (B,), 1 is the same drawing."""
    return (shape_maps(made) * shape_maps(reference)).sum(1)


def content_found(made: torch.Tensor, plain: torch.Tensor) -> float:
    """Give the share of pictures whose nearest plain one, by shape, has the same prompt (chance: 1 / B)."""
    table = shape_maps(made) @ shape_maps(plain).T
    return float((table.argmax(1) == torch.arange(len(made))).float().mean())


def style_features(pictures: torch.Tensor) -> torch.Tensor:
    """Describe palette and line work without place: (B, 34)."""
    flat = pictures.flatten(2)
    grey = pictures.mean(1, keepdim=True)
    quantiles = (
        torch.quantile(flat, torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]), dim=2)
        .permute(1, 0, 2)
        .flatten(1)
    )
    chroma = (pictures.amax(1) - pictures.amin(1)).flatten(1)
    edges = (grey[..., 1:] - grey[..., :-1]).abs().flatten(1)
    parts = [quantiles, flat.mean(2), flat.std(2), chroma.mean(1, True), chroma.std(1, keepdim=True)]
    parts += [edges.mean(1, True), (edges > 0.15).float().mean(1, True), (edges > 0.6).float().mean(1, True)]
    for side in (2, 4):
        rest = grey - F.interpolate(F.avg_pool2d(grey, side), scale_factor=side)
        parts.append(rest.abs().mean((1, 2, 3))[:, None])
    return torch.cat(parts, 1)


def style_distance(made: torch.Tensor, style: torch.Tensor, spread_of: torch.Tensor) -> float:
    """Give the distance of the mean features of two picture lists, in units of the spread over `spread_of`."""
    spread = style_features(spread_of).std(0).clamp_min(0.02)
    return float(
        ((style_features(made).mean(0) - style_features(style).mean(0)) / spread).square().mean().sqrt()
    )
