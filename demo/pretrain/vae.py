"""Train the autoencoder: torchrun --nproc-per-node 2 vae.py IMAGES.npz OUT_FOLDER MINUTES [--decoder-only FROM]

A short training loses hue: of the four latent channels none carries green against magenta, so light green comes back
orange, and PSNR hides it. Weighing colour at 4, 16 and 64 pixels in the loss of the decoded picture does not mend that
(after 1800 steps still an error of 45/255 for frogs). What mends it is `chroma`: two opponent colours weigh more, and a
linear probe must read the 4 px mean colour straight from the latents, which tells the encoder at once what is missing.
Every report gives the worst mean-colour error over the concept pictures (accept < 10/255).
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from networks import build_vae


class Pictures:
    """Give batches (B, 3, 64, 64) in [-1, 1]: half concept pictures, half icons in random colours and grounds."""

    def __init__(self, file: Path, seed: int) -> None:
        arrays = np.load(file)
        self.concepts = arrays["concepts"].reshape(-1, 64, 64, 3)
        self.icons, self.edges = arrays["icons"], arrays["edges"]
        self.rng = np.random.default_rng(seed)

    def colour(self) -> np.ndarray:
        """Draw a ground or line colour: often white, black or saturated."""
        pick = self.rng.random()
        if pick < 0.35:
            return np.full(3, 255, np.float32)
        if pick < 0.5:
            return self.rng.integers(0, 40, 3).astype(np.float32)
        return self.rng.integers(0, 256, 3).astype(np.float32)

    def icon(self) -> np.ndarray:
        """Draw one icon: colours permuted or inverted, or as lines, or in a few flat tones."""
        rng, i = self.rng, self.rng.integers(len(self.icons))
        rgba, kind = self.icons[i].astype(np.float32), self.rng.random()
        rgb, alpha = rgba[..., :3], rgba[..., 3:] / 255
        if kind < 0.2:
            alpha, rgb = self.edges[i].astype(np.float32)[..., None] / 255, self.colour()
        elif kind < 0.4:
            levels = rng.integers(2, 5)
            tone = np.floor(rgb.mean(-1, keepdims=True) / 255 * (levels - 0.01)) / (levels - 1)
            rgb = self.colour() * (1 - tone) + self.colour() * tone
        else:
            if kind < 0.6:
                rgb = rgb[..., rng.permutation(3)]
            if rng.random() < 0.1:
                rgb = 255 - rgb
        picture = rgb * alpha + (self.colour() if rng.random() < 0.6 else 255.0) * (1 - alpha)
        if rng.random() < 0.1:
            picture = picture[::3, ::3].repeat(3, 0).repeat(3, 1)[:64, :64]
        return picture

    def batch(self, size: int) -> torch.Tensor:
        """Stack `size` pictures, each shifted by a few pixels."""
        rows = []
        for k in range(size):
            picture = (
                self.icon()
                if k % 2
                else self.concepts[self.rng.integers(len(self.concepts))].astype(np.float32)
            )
            shift = self.rng.integers(-3, 4, 2)
            picture = np.pad(picture, ((3, 3), (3, 3), (0, 0)), mode="edge")
            rows.append(picture[3 + shift[0] : 67 + shift[0], 3 + shift[1] : 67 + shift[1]])
        return (
            torch.from_numpy(np.stack(rows).astype(np.float32)).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
        )


def picture_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Weigh the absolute error at several scales, and that of the pixel differences, which keeps lines sharp."""
    error = (made - real).abs().mean() + 0.5 * (made - real).square().mean()
    for side, weight in ((4, 1.0), (16, 1.0), (64, 2.0)):
        error = error + weight * F.avg_pool2d(made - real, side).abs().mean()
    error = error + 1.5 * F.avg_pool2d(chroma(made - real), 4).abs().mean()
    for axis in (2, 3):
        error = error + 0.5 * (made.diff(dim=axis) - real.diff(dim=axis)).abs().mean()
    return error


def chroma(pictures: torch.Tensor) -> torch.Tensor:
    """Turn (B, 3, H, W) into lightness and two opponent colours, orange-blue and green-magenta, the colours doubled."""
    red, green, blue = pictures.unbind(1)
    return torch.stack([(red + green + blue) / 3, 2 * (red - blue), 2 * (green - (red + blue) / 2)], 1)


@torch.no_grad()
def judge(vae: torch.nn.Module, concepts: np.ndarray) -> tuple[float, float, float]:
    """Give PSNR in dB, and the mean and the worst error of a picture's mean colour, in 1/255."""
    squares, colours = [], []
    for start in range(0, len(concepts), 32):
        real = torch.from_numpy(concepts[start : start + 32]).permute(0, 3, 1, 2).float() / 127.5 - 1
        made = vae.decode(vae.encode(real).latent_dist.mode()).sample.clamp(-1, 1)
        squares.append((made - real).square().mean((1, 2, 3)))
        colours.append((made - real).mean((2, 3)).abs().amax(1) * 127.5)
    square, colour = torch.cat(squares), torch.cat(colours)
    return float((10 * torch.log10(4 / square)).mean()), float(colour.mean()), float(colour.max())


def average_gradients(parameters: list[torch.nn.Parameter], world: int) -> None:
    """Average the gradients over the processes in one message."""
    if world == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= world
    start = 0
    for p in parameters:
        p.grad.copy_(flat[start : start + p.numel()].view_as(p))
        start += p.numel()


def main() -> None:
    """Train for the given minutes and save the weights every two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--decoder-only", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--probe", type=float, default=1.5, help="weight of the probe; 0.3 once colours hold")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if world > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    vae = build_vae()
    probe = torch.nn.Conv2d(4, 3, 1)
    frozen, start = options.decoder_only is not None, options.decoder_only or options.weights
    if start:
        vae.load_state_dict(torch.load(start, weights_only=True))
    if frozen:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    torch.manual_seed(rank + 1)
    pictures = Pictures(options.images, seed=rank + (100 if frozen else 0))
    parameters = [p for p in vae.parameters() if p.requires_grad] + (
        [] if frozen else list(probe.parameters())
    )
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    average = {k: v.clone() for k, v in vae.state_dict().items()}
    options.out.mkdir(parents=True, exist_ok=True)
    began, step, saved = time.time(), 0, 0.0
    limit = torch.zeros(1)
    while True:
        limit[0] = (time.time() - began) / (60 * options.minutes)
        if world > 1:
            dist.broadcast(limit, 0)
        done = float(limit)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = (
                options.lr * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            )
        real = pictures.batch(options.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=done < 0.75):
            latents = vae.encode(real).latent_dist.mean.float()
            noisy = latents + 0.06 * torch.randn_like(latents)
            made = vae.decode(noisy).sample.float()
        loss = picture_loss(made, real)
        if not frozen:
            spread = latents.var((0, 2, 3)) - 1
            loss = loss + options.probe * (probe(latents) - chroma(F.avg_pool2d(real, 4))).abs().mean()
            loss = loss + 0.02 * (spread.square().mean() + latents.mean((0, 2, 3)).square().mean())
        loss.backward()
        average_gradients(parameters, world)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 5 == 0:
            keep = min(0.995, step / (step + 50))
            for name, value in vae.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        if (step == 20 or step % 400 == 0) and rank == 0:
            print(f"{time.time() - began:.0f}s step {step} loss {loss.item():.4f}", flush=True)
        if rank == 0 and time.time() - saved > 90:
            saved = time.time()
            judged = build_vae()
            judged.load_state_dict(average)
            psnr, mean, worst = judge(judged, pictures.concepts[::3])
            print(
                f"{time.time() - began:.0f}s step {step} PSNR {psnr:.2f} "
                f"mean colour error {mean:.1f} worst {worst:.1f}",
                flush=True,
            )
            torch.save(average, options.out / "vae.pt")
    if rank == 0:
        judged = build_vae()
        judged.load_state_dict(average)
        print("final", step, judge(judged, pictures.concepts), flush=True)
        torch.save(average, options.out / "vae.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
