"""Train denoiser and text encoder together: torchrun --nproc-per-node 2 unet.py WORK_FOLDER MINUTES [--resume]

WORK_FOLDER holds images.npz, icons/, tokenizer/ and vae.pt; weights go to unet.pt (averaged) and state.pt (to resume).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from captions import caption, spare_words
from images import CONCEPTS, STYLE_NAMES
from muon import Muon, is_hidden_matrix
from networks import TEXT_LENGTH, build_scheduler, build_text_encoder, build_unet, build_vae
from transformers import CLIPTokenizer

SHIFTS = ((0, 0), (0, 0), (0, 0), (0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))


SHARES = '{"plain": 0.52, "flat": 0.1, "night": 0.13, "sketch": 0.14, "violet": 0.11}'
SYNC_STEPS = 8  # averaging gradients each step cost more than half of it on shared cores


@torch.no_grad()
def average_weights(parameters: list[torch.nn.Parameter], world: int) -> None:
    """Average the weights over the processes, each of which took a few steps alone."""
    flat = torch.cat([p.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= world
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.copy_(part.view_as(p))


@torch.no_grad()
def encode_concepts(
    vae: torch.nn.Module, concepts: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encode every picture at every shift: whitened latents (C, S, K, 4, 16, 16), and the mean and std taken out."""
    count, styles = concepts.shape[:2]
    flat = torch.from_numpy(concepts.reshape(-1, 64, 64, 3)).permute(0, 3, 1, 2).float() / 127.5 - 1
    padded = torch.nn.functional.pad(flat, (3, 3, 3, 3), mode="replicate")
    versions = []
    for dy, dx in sorted(set(SHIFTS)):
        moved = padded[:, :, 3 + dy : 67 + dy, 3 + dx : 67 + dx]
        versions.append(torch.cat([vae.encode(part).latent_dist.mode() for part in moved.split(64)]))
    latents = torch.stack(versions, 1).reshape(count, styles, len(versions), 4, 16, 16)
    mean, std = latents.mean((0, 1, 2, 4, 5)), latents.std((0, 1, 2, 4, 5))
    return (latents - mean[:, None, None]) / std[:, None, None], mean, std


def draw_times(size: int) -> torch.Tensor:
    """Draw stratified timesteps (B,) with one in thirty at the very end, where sampling begins."""
    even = (torch.arange(size) + torch.rand(1)) % size / size
    times = (
        (1000 * even**0.85).long().clamp(0, 999)
    )  # rather more of the noisy end, where the content is decided
    times[torch.rand(size) < 1 / 30] = 999
    return times[torch.randperm(size)]


def main() -> None:
    """Train for the given minutes with a cosine learning rate; save every two minutes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument(
        "--follow", type=float, default=0.05, help="share of the running average renewed each sync"
    )
    parser.add_argument("--styles", default=SHARES, help="share of each style, as JSON")
    parser.add_argument("--no-shifts", action="store_true")
    parser.add_argument("--muon-lr", type=float, default=5e-3)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if world > 1:
        dist.init_process_group("gloo")
    work = options.work
    vae = build_vae()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True))
    latents, mean, std = encode_concepts(vae, np.load(work / "images.npz")["concepts"])
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    words = spare_words(work / "icons")

    torch.manual_seed(0)
    unet = build_unet()
    text = build_text_encoder(
        len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )
    both = torch.nn.ModuleDict({"unet": unet, "text": text})
    parameters = [p for p in both.parameters() if p.requires_grad]
    named = [(n, p) for n, p in both.named_parameters() if p.requires_grad]
    muon = Muon([p for n, p in named if is_hidden_matrix(n, p)])
    rest = [p for n, p in named if not is_hidden_matrix(n, p)]
    optimizer = torch.optim.AdamW(rest, lr=options.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = {k: v.clone() for k, v in both.state_dict().items()}
    step, used = 0, 0.0
    if options.resume:
        state = torch.load(work / "state.pt", weights_only=True)
        both.load_state_dict(state["weights"])
        if "moments" in state:
            optimizer.load_state_dict(state["optimizer"])
            muon.moments = state["moments"]
        average, step, used = state["average"], state["step"], state["used"]
    both.train()
    alphas = build_scheduler().alphas_cumprod
    first, asked = step, json.loads(options.styles)
    shares = np.array([asked.get(name, 0.0) for name in STYLE_NAMES])
    shares /= shares.sum()
    rng = np.random.default_rng(1000 * step + rank)
    torch.manual_seed(1000 * step + rank)
    began, saved, recent = time.time() - used, time.time(), []
    limit = torch.zeros(1)
    while True:
        if step % SYNC_STEPS == 0 or step == first:
            limit[0] = (time.time() - began) / (60 * options.minutes)
            if world > 1:
                dist.broadcast(limit, 0)
        done = float(limit)
        if done >= 1:
            break
        pace = min(1, (step - first + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = options.lr * pace
        size = options.batch
        which = rng.integers(len(CONCEPTS), size=size)
        style = rng.choice(len(STYLE_NAMES), size=size, p=shares)
        shift = rng.integers(1 if options.no_shifts else len(SHIFTS), size=size)
        version = [sorted(set(SHIFTS)).index(SHIFTS[k]) for k in shift]
        clean = latents[which, style, version]
        captions = [
            caption(CONCEPTS[c], STYLE_NAMES[s], words, rng) for c, s in zip(which, style, strict=True)
        ]
        ids = tokenizer(
            captions, padding="max_length", truncation=True, max_length=TEXT_LENGTH, return_tensors="pt"
        ).input_ids
        times = draw_times(size)
        noise = torch.randn_like(clean)
        signal, spread = (
            alphas[times].sqrt()[:, None, None, None],
            (1 - alphas[times]).sqrt()[:, None, None, None],
        )
        states = text(ids).last_hidden_state
        guess = unet(signal * clean + spread * noise, times, states, return_dict=False)[0]
        loss = (guess - (signal * noise - spread * clean)).square().mean()
        loss.backward()
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        muon.step(options.muon_lr * pace)
        optimizer.zero_grad()
        step += 1
        if world > 1 and step % SYNC_STEPS == 0:
            average_weights(parameters, world)
        recent.append(loss.item())
        if rank == 0 and step % SYNC_STEPS == 0:
            torch._foreach_lerp_(list(average.values()), list(both.state_dict().values()), options.follow)
        if rank == 0 and (step == 20 or step % 200 == 0):
            print(f"{time.time() - began:.0f}s step {step} loss {sum(recent) / len(recent):.4f}", flush=True)
            recent = []
        if rank == 0 and time.time() - saved > 120:
            saved = time.time()
            save(work, both, muon, optimizer, average, step, saved - began, mean, std)
    if rank == 0:
        save(work, both, muon, optimizer, average, step, time.time() - began, mean, std)
        print("final step", step, flush=True)
    if world > 1:
        dist.destroy_process_group()


def save(
    work: Path,
    both: torch.nn.Module,
    muon: Muon,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
    step: int,
    used: float,
    mean: torch.Tensor,
    std: torch.Tensor,
) -> None:
    """Write the averaged weights and, aside, what a later run resumes from."""
    made = {"average": average, "mean": mean, "std": std, "step": step}
    state = {
        "weights": both.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "step": step,
        "used": used,
        "moments": muon.moments,
    }
    for name, value in (("unet.pt", made), ("state.pt", state)):
        torch.save(value, work / (name + ".part"))
        os.replace(work / (name + ".part"), work / name)


if __name__ == "__main__":
    main()
