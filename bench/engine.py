"""Measure the trainer: its loop against a bare loop, what caches save, and what everything beside a step costs.

The bare loop has its inputs ready and does forward, loss, backward and fused AdamW, nothing else. "Uncached" is our
loop with every picture and text encoded anew. All three run in turns, in blocks, so that a busy machine disturbs them
alike; CPU time is what counts there, wall time on an idle one. Memory is measured in a process for each.

    python -m bench.engine [demo] [sd15] [--pictures demo/styles/ink] [--threads 1] [--blocks N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.engine_models import MODELS, ROOT, Model
from training.engine.child import prepare_environment, quieten_libraries


def measured(model: Model, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one model in this process."""
    import torch

    from bench.engine_runs import Loops, compare, costs, first_step, recipe

    quieten_libraries()
    blocks = options.blocks or model.blocks
    base = model.parts() if model.parts else None
    spec = recipe(model, options.pictures, options.threads, folder / "cache")
    cold = first_step(model, spec, folder / "cold", base)
    loops = Loops(model, spec, folder / "run", base)
    about = {
        "model": model.title, "machine": machine(), "torch": torch.__version__, "threads": torch.get_num_threads(),
        "batch": model.batch, "resolution": model.resolution, "steps": blocks * model.steps,
        **summary(compare(loops, blocks), model.steps),
    }  # fmt: skip
    about["seconds"] = costs(loops, model.repeats)
    loops.trainer.detach()
    ready = [
        first_step(model, spec, folder / "ready", base or loops.trainer.parts) for _ in range(model.repeats)
    ]
    resumed = [
        first_step(model, spec, folder / "run", base or loops.trainer.parts, True)
        for _ in range(model.repeats)
    ]
    about["seconds"] |= {"first step, nothing cached": cold}
    if base is None:
        loaded = [first_step(model, spec, folder / "ready", None) for _ in range(model.repeats)]
        about["seconds"] |= {"first step": statistics.median(loaded)}
    about["seconds"] |= {
        "first step, base in memory": statistics.median(ready),
        "resumed step, base in memory": statistics.median(resumed),
    }
    about["seconds"] = {name: round(value, 3) for name, value in about["seconds"].items()}
    return about


def machine() -> str:
    """Say on what this runs."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{name}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def summary(taken: dict[str, list[tuple[float, float]]], steps: int) -> dict[str, Any]:
    """Return medians in ms a step, steps a second, and median and quartiles of the blocks' ratios to the bare loop."""
    result: dict[str, Any] = {"steps_per_second": {}}
    for name, rows in taken.items():
        result["steps_per_second"][name] = round(steps / statistics.median(wall for _, wall in rows), 3)
    for column, clock in enumerate(("cpu", "wall")):
        times = {name: [row[column] for row in rows] for name, rows in taken.items()}
        result[clock] = {
            f"{name}_ms": round(1000 * statistics.median(each) / steps, 2) for name, each in times.items()
        }
        for name in times.keys() - {"bare"}:
            pairs = [a / b for a, b in zip(times[name], times["bare"], strict=True)]
            low, middle, high = statistics.quantiles(pairs, n=4)
            result[clock][f"{name}_ratio"] = [round(middle, 4), round(low, 4), round(high, 4)]
    return result


def peaks(key: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the most memory of each way in MB, each in a process of its own."""
    from bench.engine_runs import VARIANTS

    found = {}
    for variant in VARIANTS:
        command = [
            sys.executable, "-m", "bench.engine", key, "--peak", variant,
            "--pictures", str(options.pictures), "--threads", str(options.threads),
        ]  # fmt: skip
        output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        found[variant] = float(output.splitlines()[-1])
    return found


def peak(model: Model, options: argparse.Namespace, folder: Path) -> float:
    """Measure the memory of one way in this process."""
    from bench.engine_runs import Loops, peak_mb, recipe

    quieten_libraries()
    spec = recipe(model, options.pictures, options.threads, folder / "cache")
    return peak_mb(Loops(model, spec, folder / "run", model.parts() if model.parts else None), options.peak)


def main() -> int:
    """Measure the named models, or the demo model; print a line for each figure, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; default demo")
    parser.add_argument("--pictures", type=Path, default=ROOT / "demo" / "styles" / "ink")
    parser.add_argument("--blocks", type=int, default=0, help="blocks of steps; default by the model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", choices=["bare", "ours", "uncached"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.models) - MODELS.keys():
        parser.error(f"there is no model {unknown.pop()!r}; known: {', '.join(MODELS)}")
    prepare_environment()
    for key in options.models or ["demo"]:
        with tempfile.TemporaryDirectory() as folder:
            if options.peak:
                print(round(peak(MODELS[key], options, Path(folder)), 1))
                continue
            result = measured(MODELS[key], options, Path(folder))
        result["peak_mb"] = peaks(key, options)
        if options.json:
            print(json.dumps(result, indent=1))
            continue
        for name, value in result.items():
            print(f"{name:17} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
