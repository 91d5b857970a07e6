"""The loops that `bench.engine` compares, over one trainer: ours, ours without caches, and a bare one."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.engine_models import Model
from training.engine.api import LoRATrainer
from training.engine.data.dataset import Dataset
from training.engine.data.pictures import load_pixels
from training.engine.data.placement import CENTRE, Picture
from training.engine.events import Event, to_line
from training.engine.families.base import Parts
from training.engine.loop import TrainingLoop
from training.engine.spec import RunSpec
from training.engine.step import StepComputer

VARIANTS = ("bare", "ours", "uncached")


class Silent:
    """Take events and write them as the real sink does, to nowhere."""

    def emit(self, event: Event) -> None:
        """Serialise, as a run would."""
        to_line(event)


class Uncached:
    """Be a data set that decodes and encodes a picture each time it is asked for; the rest is as in the real one."""

    def __init__(self, dataset: Dataset, trainer: LoRATrainer) -> None:
        self._dataset, self._trainer = dataset, trainer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    @torch.no_grad()
    def latent(self, picture: Picture, flip: bool = False, crop: float = CENTRE) -> Tensor:
        """Return the latents (C, h, w) of a picture, encoded now."""
        trainer = self._trainer
        pixels = load_pixels(picture.item.path, *picture.bucket, flip=flip)[None]
        return trainer.family.encode_image(trainer.parts, pixels.to(trainer.device))[0]


def recipe(model: Model, pictures: Path, threads: int, cache: Path, steps: int = 1_000_000) -> RunSpec:
    """Return a recipe that is never due to draw or save within the benchmark."""
    return RunSpec.from_dict({
        "name": "bench", "dataset": {"folder": str(pictures)}, "threads": threads, "cache_dir": str(cache),
        "base_model": model.recipe["base_model"], "method": {"rank": 8, **model.recipe["method"]},
        "training": {"steps": steps, "batch_size": model.batch, "resolution": model.resolution, "precision": "fp32",
                     "gradient_checkpointing": "off", "schedule": "constant", "learning_rate": 1e-6},
        "checkpoint": {"every_steps": 1_000_000, "every_minutes": None},
        "sampling": {"every_steps": 1_000_000, "prompts": ["a plate"], "steps": 20},
    })  # fmt: skip


class Loops:
    """Hold one trainer that is ready to step, and the loops that drive it. Each call makes ``model.steps`` steps."""

    def __init__(self, model: Model, spec: RunSpec, folder: Path, base: Parts | None) -> None:
        """Build the trainer; its caches are filled."""
        self.model = model
        self.trainer = trainer = LoRATrainer(spec, run_dir=folder, sink=Silent(), base=base)
        trainer.prepare_data()
        trainer.build_model()
        self._ours = self._loop(trainer.computer)
        live = StepComputer(
            trainer.spec, trainer.family, trainer.parts, Uncached(trainer.dataset, trainer), trainer.precision,  # type: ignore[arg-type]
            live_text=True, adapter=trainer.adapter,
        )  # fmt: skip
        self._uncached = self._loop(live)
        self._ready = self._inputs()
        self._adamw = torch.optim.AdamW(trainer.optimizer.parameters, lr=1e-6, fused=True)

    def _loop(self, computer: StepComputer) -> TrainingLoop:
        trainer = self.trainer
        return TrainingLoop(
            spec=trainer.spec, plan=trainer.dataset.plan, parts=trainer.parts, adapter=trainer.adapter,
            computer=computer, optimizer=trainer.optimizer, state=trainer.state, sink=trainer.sink,
            control=trainer.control, borders=trainer,
        )  # fmt: skip

    def _inputs(self) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
        """Return noised latents, times, texts and targets of one whole batch."""
        trainer, batch = self.trainer, self.model.batch
        parts, family = trainer.parts, trainer.family
        full = next(b for s in range(100) for b in trainer.computer.draws(s) if len(b) == batch)
        latents = torch.stack([trainer.dataset.latent(d.picture) for d in full]).to(trainer.device)
        rows = [{**trainer.dataset.text_row(d.text), **family.geometry(parts, d.picture.view)} for d in full]
        text = {name: tensor.to(trainer.device) for name, tensor in family.collate_text(rows).items()}
        t = parts.process.timesteps(torch.arange(batch, dtype=torch.float64) / batch).to(trainer.device)
        noise = torch.randn_like(latents)
        return parts.process.add_noise(latents, noise, t), t, text, parts.process.target(latents, noise, t)

    def run(self, variant: str) -> None:
        """Make a block of steps in one of the ways."""
        {"bare": self.bare, "ours": self.ours, "uncached": self.uncached}[variant]()

    def bare(self) -> None:
        """Forward, loss, backward and fused AdamW over inputs that are ready."""
        noised, t, text, target = self._ready
        for _ in range(self.model.steps):
            self._adamw.zero_grad(set_to_none=True)
            prediction = self.trainer.family.forward(self.trainer.parts, noised, t, text)
            torch.nn.functional.mse_loss(prediction, target).backward()
            self._adamw.step()
        self._wait()

    def ours(self) -> None:
        """Step as a run does."""
        self._advance(self._ours)

    def uncached(self) -> None:
        """Step as a run does, with every picture and text encoded anew."""
        self._advance(self._uncached)

    def _advance(self, loop: TrainingLoop) -> None:
        trainer = self.trainer
        for _ in range(self.model.steps):
            # Only whole batches: an epoch's last one may be smaller and would flatter us.
            while [len(b) for b in trainer.computer.draws(trainer.state.step)] != [self.model.batch]:
                trainer.state.step += 1
            loop.advance()
        self._wait()

    def _wait(self) -> None:
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return (CPU seconds of all threads, wall seconds) of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(loops: Loops, blocks: int) -> dict[str, list[tuple[float, float]]]:
    """Run all ways in turns, in blocks, so that a busy machine disturbs them alike."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for name in VARIANTS:
        loops.run(name)
    for block in range(blocks):
        for name in VARIANTS[block % 3 :] + VARIANTS[: block % 3]:
            taken[name].append(seconds(lambda name=name: loops.run(name)))  # type: ignore[misc]
    return taken


def costs(loops: Loops, repeats: int) -> dict[str, float]:
    """Return the median seconds of a checkpoint with its file, and of a sample of 20 denoising steps."""
    trainer = loops.trainer
    save = [seconds(lambda: trainer.save(trainer.state.step))[1] for _ in range(repeats)]
    draw = [seconds(lambda: trainer.draw(trainer.state.step, lora=True))[1] for _ in range(repeats)]
    return {"checkpoint": statistics.median(save), "sample": statistics.median(draw)}


def first_step(model: Model, spec: RunSpec, folder: Path, base: Parts | None, resume: bool = False) -> float:
    """Return the wall seconds from a recipe to the end of its first step, in a process that has its imports.

    ``resume`` goes on from the newest checkpoint of the folder.
    """
    start = time.perf_counter()
    trainer = LoRATrainer(
        spec, run_dir=folder, sink=Silent(), base=base,
        resume_from=folder / "checkpoints" if resume else None,
    )  # fmt: skip
    trainer.prepare_data()
    trainer.build_model()
    TrainingLoop(
        spec=trainer.spec, plan=trainer.dataset.plan, parts=trainer.parts, adapter=trainer.adapter,
        computer=trainer.computer, optimizer=trainer.optimizer, state=trainer.state, sink=trainer.sink,
        control=trainer.control, borders=trainer,
    ).advance()  # fmt: skip
    taken = time.perf_counter() - start
    trainer.detach()
    return taken


def peak_mb(loops: Loops, variant: str) -> float:
    """Return the most memory in MB that a variant holds while it steps; the rest of the process is in it.

    The bare loop has only the denoiser in memory; ours keeps the encoders and the VAE, on a GPU partly in the host's.
    """
    trainer = loops.trainer
    if variant == "bare":
        for name in ("vae", *trainer.parts.encoder_names):
            trainer.parts.components[name].to("meta")
    gc.collect()
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    for _ in range(3):
        loops.run(variant)
    if trainer.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    marks = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in marks if line.startswith("VmHWM"))
