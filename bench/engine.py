"""Compare the engine's loop with a bare loop over the same model: what do data, clipping, metrics and guards cost?

The bare loop has its inputs ready and does forward, loss, backward and fused AdamW, nothing else. Both run in turns, in
blocks, so that a busy machine disturbs both alike; CPU time is what counts there, wall time on an idle one.

    python -m bench.engine --base demo/base --pictures demo/styles/ink [--blocks 12] [--steps 5] [--batch 8]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from training.engine.child import prepare_environment
from training.engine.events import Event, to_line
from training.engine.spec import RunSpec


class Silent:
    """Take events and write them as the real sink does, to nowhere."""

    def emit(self, event: Event) -> None:
        """Serialise, as a run would."""
        to_line(event)


def spec_for(options: argparse.Namespace) -> RunSpec:
    """Return a recipe that is never due to draw or save within the benchmark."""
    return RunSpec.from_dict({
        "name": "bench", "base_model": {"path": str(options.base)}, "dataset": {"folder": str(options.pictures)},
        "method": {"rank": options.rank, "targets": options.targets},
        "training": {"steps": 1_000_000, "batch_size": options.batch, "resolution": options.resolution,
                     "schedule": "constant", "learning_rate": 1e-6},
        "checkpoint": {"every_steps": 1_000_000, "every_minutes": None}, "sampling": {"every_steps": 1_000_000},
        "threads": options.threads,
    })  # fmt: skip


def measure(run: Callable[[], None]) -> tuple[float, float]:
    """Return (CPU seconds, wall seconds) of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Build one model and drive it by both loops in turns."""
    import torch

    from training.engine.api import LoRATrainer
    from training.engine.child import quieten_libraries
    from training.engine.loop import TrainingLoop

    quieten_libraries()
    trainer = LoRATrainer(spec_for(options), run_dir=folder, sink=Silent())
    trainer.prepare_data()
    trainer.build_model()
    loop = TrainingLoop(
        spec=trainer.spec, plan=trainer.dataset.plan, parts=trainer.parts, adapter=trainer.adapter,
        computer=trainer.computer, optimizer=trainer.optimizer, state=trainer.state, sink=trainer.sink,
        control=trainer.control, borders=trainer,
    )  # fmt: skip

    parts, family = trainer.parts, trainer.family
    full = next(b for s in range(100) for b in trainer.computer.draws(s) if len(b) == options.batch)
    latents = torch.stack([trainer.dataset.latent(d.picture) for d in full]).to(trainer.device)
    rows = [{**trainer.dataset.text_row(d.text), **family.geometry(parts, d.picture.view)} for d in full]
    text = {name: tensor.to(trainer.device) for name, tensor in family.collate_text(rows).items()}
    u = torch.arange(options.batch, dtype=torch.float64) / options.batch
    t = parts.process.timesteps(u).to(trainer.device)
    noise = torch.randn_like(latents)
    noised, target = parts.process.add_noise(latents, noise, t), parts.process.target(latents, noise, t)
    adamw = torch.optim.AdamW(trainer.optimizer.parameters, lr=1e-6, fused=True)

    def wait() -> None:
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()

    def bare() -> None:
        for _ in range(options.steps):
            adamw.zero_grad(set_to_none=True)
            loss = torch.nn.functional.mse_loss(family.forward(parts, noised, t, text), target)
            loss.backward()
            adamw.step()
        wait()

    def ours() -> None:
        for _ in range(options.steps):
            # Only whole batches: an epoch's last one may be smaller and would flatter us.
            while [len(b) for b in trainer.computer.draws(trainer.state.step)] != [options.batch]:
                trainer.state.step += 1
            loop.advance()
        wait()

    bare()
    ours()
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
    for block in range(options.blocks):
        order = (("bare", bare), ("ours", ours)) if block % 2 == 0 else (("ours", ours), ("bare", bare))
        for name, run in order:
            taken[name].append(measure(run))
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "torch": torch.__version__, "threads": torch.get_num_threads(), "batch": options.batch,
        "steps": options.blocks * options.steps, **summary(taken, options.steps),
    }  # fmt: skip


def summary(taken: dict[str, list[tuple[float, float]]], steps: int) -> dict[str, object]:
    """Return medians in ms a step, and the median and quartiles of the pairs' ratios, for CPU and wall time."""
    result: dict[str, object] = {}
    for column, clock in enumerate(("cpu", "wall")):
        ours, bare = ([row[column] for row in taken[name]] for name in ("ours", "bare"))
        low, middle, high = statistics.quantiles([a / b for a, b in zip(ours, bare, strict=True)], n=4)
        result[clock] = {
            "ours_ms": round(1000 * statistics.median(ours) / steps, 2),
            "bare_ms": round(1000 * statistics.median(bare) / steps, 2),
            "ratio": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)],
        }  # fmt: skip
    return result


def main() -> int:
    """Run the comparison and print medians, the ratio of pairs and its spread; JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=Path("demo/base"))
    parser.add_argument("--pictures", type=Path, default=Path("demo/styles/ink"))
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--steps", type=int, default=5, help="steps in a block")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", default="all")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        result = compare(options, Path(folder))
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:8} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
