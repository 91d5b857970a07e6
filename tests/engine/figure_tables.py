"""Our estimates beside published figures, as docs/estimate.md has them: `python -m tests.engine.figure_tables`."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.engine.figures import CHECKPOINTED, FIGURES, OTHERS, within
from training.engine.estimate import DEVICES, DeviceProfile, step_seconds
from training.engine.footprint import Setup, host_mb
from training.engine.profiles import MODELS, ModelProfile


@dataclasses.dataclass(frozen=True)
class Pace:
    """Be one published time for a step, in seconds, on a device of ours that is nearest to the one used."""

    source: str
    run: str
    seconds: float
    model: ModelProfile
    setup: Setup
    device: DeviceProfile

    @property
    def ours(self) -> float:
        """Return what we say, in seconds."""
        return step_seconds(self.model, self.setup, self.device)


def _pace(source: str, run: str, seconds: float, model: str, device: str, **settings: Any) -> Pace:
    return Pace(source, run, seconds, MODELS.get(model) or OTHERS[model], Setup(**settings), DEVICES[device])


NF4: dict[str, Any] = {**CHECKPOINTED, "weights": "nf4"}
SMALL: dict[str, Any] = {"resolution": 512, "targets": "attn"}
PACES = (
    _pace("SimpleTuner FLUX.md", "FLUX.1 nf4, 512, 4090", 1.4, "flux", "24 GB", **NF4, resolution=512),
    _pace("SimpleTuner FLUX.md", "FLUX.1 nf4, 1024, 4090", 3.5, "flux", "24 GB", **NF4),
    _pace("sd-scripts PR#1374", "FLUX.1 bf16, 1024, A6000", 8.25, "flux", "48 GB", **CHECKPOINTED),
    _pace("SimpleTuner sweep", "Z-Image 512, H100", 0.243, "z-image", "80 GB", **SMALL),
    _pace("SimpleTuner sweep", "Z-Image 512, checkpointed, H100", 0.479, "z-image", "80 GB", **SMALL, **CHECKPOINTED),
    _pace("SimpleTuner sweep", "SDXL 1024, H100", 0.606, "sdxl", "80 GB"),
    _pace("SimpleTuner sweep", "Krea 2 512, H100", 0.272, "Krea 2", "80 GB", **SMALL),
    _pace("SimpleTuner sweep", "Krea 2 512, checkpointed, H100", 0.371, "Krea 2", "80 GB", **SMALL, **CHECKPOINTED),
    _pace("SimpleTuner KREA2.md", "Krea 2 1024, H100", 0.990, "Krea 2", "80 GB", **CHECKPOINTED),
    _pace("SimpleTuner KREA2.md", "Krea 2 1024, int8, H100", 1.330, "Krea 2", "80 GB", weights="int8", **CHECKPOINTED),
    _pace("SimpleTuner sweep", "Qwen-Image 1024, H100", 1.202, "qwen-image", "80 GB", **CHECKPOINTED),
    _pace("SimpleTuner sweep", "Qwen-Image 1024, L40S", 3.377, "qwen-image", "48 GB", **CHECKPOINTED),
)  # fmt: skip

HOSTS = (
    ("SimpleTuner FLUX.md", "FLUX.1, quantising to int8", 50, host_mb(MODELS["flux"], Setup(weights="int8"))),
    ("ai-toolkit PR#525", "FLUX.2 dev, quantising to int8", 140, host_mb(MODELS["flux2"], Setup(weights="int8"))),
    ("ai-toolkit#653", "FLUX.2 klein 9B, fp8 (64 GB suffice)", 64,
     host_mb(MODELS["flux2-klein-9b"], Setup(weights="fp8"))),
)  # fmt: skip


def tables() -> str:
    """Return the tables of docs/estimate.md."""
    lines = ["| source | run | kind | published GB | ours | ratio |", "|---|---|---|---|---|---|"]
    for each in FIGURES:
        told = f"{each.low:g}" if each.low == each.high else f"{each.low:g}-{each.high:g}"
        mark = "" if each.is_within else " *"
        lines.append(
            f"| {each.source} | {each.run} | {each.kind} | {told} | {each.ours:.1f} | {each.ratio:.2f}{mark} |"
        )
    lines += ["", "| source | run | published s | ours | ratio |", "|---|---|---|---|---|"]
    for pace in PACES:
        lines.append(
            f"| {pace.source} | {pace.run} | {pace.seconds:g} | {pace.ours:.2f} | {pace.ours / pace.seconds:.2f} |"
        )
    lines += ["", "| source | run | published GB of host memory | ours |", "|---|---|---|---|"]
    lines += [f"| {source} | {run} | {told} | {mb / 1024:.0f} |" for source, run, told, mb in HOSTS]
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
    for kind in ("measured", "stated", "card", None):
        print(kind or "all", *within(kind))
