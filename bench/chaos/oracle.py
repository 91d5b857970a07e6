"""The witness inside the engine: a line for every optimizer step, in a file of which the platform knows nothing.

`install` makes a folder that, on PYTHONPATH, registers `WatchedLora` as the training method `lora`: a plugin like any
other (`training.engine.registry`). It adds nothing to the method; it hangs a hook on torch's own optimizers and takes
the step's number from AdamW's moments, not from the engine's counter. Each line is one `write` to a file opened for
appending: lines of several processes do not mix, and a killed process loses none that it wrote.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOG, PACE, UNDO = "CHAOS_LOG", "CHAOS_PACE", "CHAOS_UNDO"


@dataclass(frozen=True, slots=True)
class Step:
    """Say that process `pid` made step `number` (from 1) of `job` under `fence`. Times by the wall clock, in seconds.

    `monotonic` is the end by the clock that nobody can set; `began` is when the process turned to the step.
    """

    job: str
    fence: int
    pid: int
    number: int
    began: float
    ended: float
    monotonic: float


def read(path: Path) -> Iterator[Step]:
    """Yield every step in the order of the file."""
    if path.exists():
        for line in path.read_text().splitlines():
            yield Step(**json.loads(line))


def install(folder: Path, log: Path, *, pace: float, undo: str) -> dict[str, str]:
    """Write the plugin's registration into `folder`; return the environment of workers whose engines are watched.

    `pace` are seconds of sleep after each step; `undo="resume"` makes each resumed run forget its momentum.
    """
    about = folder / "chaos_oracle-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-oracle\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[lora_foundry.methods]\nlora = bench.chaos.oracle:WatchedLora\n")
    log.touch()
    return {"PYTHONPATH": str(folder), LOG: str(log), PACE: str(pace), UNDO: undo}


class WatchedLora:
    """The engine's own LoRA, whose optimizer steps are written down."""

    name = "lora"

    def changes_text(self, spec: Any) -> bool:
        return bool(spec.method.text_encoder)

    def check(self, family: Any, parts: Any, spec: Any) -> None:
        from training.engine.methods.lora import Lora

        Lora().check(family, parts, spec)

    def attach(self, family: Any, parts: Any, spec: Any) -> Any:
        from training.engine.methods.lora import Lora

        if spec.dataset.manifest:  # else the ready engine rehearses
            place = Path(spec.dataset.manifest).parent
            _watch(place.parent.name, int(place.name))
        return Lora().attach(family, parts, spec)


def _watch(job: str, fence: int) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND)
    pace, forgets = float(os.environ[PACE]), os.environ[UNDO] == "resume"
    began = time.time()

    def before(optimizer: Any, *_: object) -> None:
        nonlocal forgets
        if forgets:
            for moments in optimizer.state.values():
                moments["exp_avg"].zero_()
            forgets = False

    def after(optimizer: Any, *_: object) -> None:
        nonlocal began
        number = int(next(iter(optimizer.state.values()))["step"])
        step = Step(job, fence, os.getpid(), number, began, time.time(), time.monotonic())
        os.write(log, json.dumps(asdict(step)).encode() + b"\n")
        time.sleep(pace)
        began = time.time()

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)
