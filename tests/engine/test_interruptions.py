"""Fifty interruptions at random over five families: kill -9, SIGTERM, memory that runs out, gradients that are NaN.

Each run is a process of its own, forked from this one, on real files. It is compared, bit for bit, with one that
nobody disturbed and that met the same NaN: what a bad gradient does to a run is part of the run.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.engine.api import LoRATrainer
from training.engine.control import Control
from training.engine.errors import Interrupted
from training.engine.events import EventWriter
from training.engine.spec import RunSpec
from training.engine.step import Draw, StepComputer

from .conftest import CPU, assert_equal, make_spec

FAMILIES = ("sd", "sdxl", "flux", "lumina2", "pixart")
STEPS, KILLS, TERMS, MEMORY, NAN = 24, 4, 3, 2, 1
"""Steps of a run, and how often each befalls it: ten times a family."""


def plant(run_dir: Path, out_of_memory: Sequence[int], nan: Sequence[int]) -> None:
    """Make memory run out once at each of some steps, and the loss NaN at each of others."""
    plain = StepComputer.losses

    def losses(self: StepComputer, draws: Sequence[Draw]) -> Tensor:
        step = draws[0].step
        mark = run_dir / f"out-of-memory-{step}"
        if step in out_of_memory and not mark.exists():
            mark.touch()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, draws) * (float("nan") if step in nan else 1.0)

    StepComputer.losses = losses  # type: ignore[method-assign]


def start(spec: RunSpec, run_dir: Path, out_of_memory: Sequence[int], nan: Sequence[int]) -> int:
    """Fork a process that trains, going on from what is there; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        plant(run_dir, out_of_memory, nan)
        control = Control()
        control.catch_signals()
        checkpoints = run_dir / "checkpoints"
        LoRATrainer(
            spec, run_dir=run_dir, sink=EventWriter(run_dir / "events.jsonl"), control=control, device=CPU,
            resume_from=checkpoints if checkpoints.exists() else None,
        ).run()  # fmt: skip
        code = 0
    except Interrupted:
        code = 75
    except BaseException:
        (run_dir / "error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def ended(pid: int, run_dir: Path) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code != 70, (run_dir / "error.txt").read_text()
    return code


def disturb(pid: int, run_dir: Path, number: signal.Signals, wait: float) -> None:
    """Send a signal some time after the process has begun to write."""
    deadline = time.monotonic() + 60
    events = run_dir / "events.jsonl"
    size = events.stat().st_size if events.exists() else 0
    while (not events.exists() or events.stat().st_size <= size) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(wait)
    os.kill(pid, number)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_ten_interruptions_change_no_bit(
    name: str, bases: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    dice = random.Random(name)
    steps = dice.sample(range(2, STEPS - 1), MEMORY + NAN)
    out_of_memory, nan = steps[:MEMORY], steps[MEMORY:]
    # One picture at a time: smaller parts would add up in another order, recomputed blocks do not.
    spec = make_spec(
        bases[name], pictures, training={"steps": STEPS, "batch_size": 1, "gradient_accumulation": 2},
        checkpoint={"every_steps": 3}, cache_dir=str(tmp_path / "cache"), output={"dtype": "fp32"},
    )  # fmt: skip
    alone = tmp_path / "alone"
    began = time.monotonic()
    assert ended(start(spec, alone, (), nan), alone) == 0
    length = time.monotonic() - began
    run_dir = tmp_path / "disturbed"
    signals = [signal.SIGKILL] * KILLS + [signal.SIGTERM] * TERMS
    dice.shuffle(signals)
    left = list(signals)
    for _ in range(200):
        pid = start(spec, run_dir, out_of_memory, nan)
        if left:
            disturb(pid, run_dir, left[0], dice.uniform(0.0, 0.3) * length)
        code = ended(pid, run_dir)
        if left and code in (75, -signal.SIGKILL):
            left.pop(0)
        elif code == 0:
            break
    assert not left, "it ended before all of it befell it"
    assert {int(p.name.rpartition("-")[2]) for p in run_dir.glob("out-of-memory-*")} == set(out_of_memory)
    assert_equal(
        load_file(run_dir / "exports" / "tiny.safetensors"), load_file(alone / "exports" / "tiny.safetensors")
    )
