"""How long a run will take and how much memory it needs, from its specification alone.

Without measurements it is a rule of thumb and says so; with a measured step or a device profile it is close.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from training.engine.cadence import times_left
from training.engine.fields import gettext_noop as _
from training.engine.memory_plan import QUANTISED_BYTES, USABLE
from training.engine.sections import CHECKPOINTING
from training.engine.spec import RunSpec


@dataclasses.dataclass(frozen=True, slots=True)
class ModelProfile:
    """Give the size of a base model: parameters in millions, and the cost of one picture of 512 x 512.

    ``gflops`` is one forward pass of the denoiser at 512 pixels; ``activations_mb`` what training one such picture
    keeps, without gradient checkpointing, in two-byte numbers.
    """

    denoiser_m: float
    encoders_m: float
    gflops: float
    activations_mb: float


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Give a device's useful speed (TFLOP/s reached in training, not the data sheet's) and its memory."""

    name: str
    tflops: float
    memory_mb: int
    bytes_per_weight: int = 2


MODELS: dict[str, ModelProfile] = {
    # UNet of 860 M, CLIP and VAE of 207 M; 0.68 TFLOP a forward pass at 512 pixels (diffusers' own configuration).
    "sd": ModelProfile(860.0, 207.0, 680.0, 2600.0),
}

DEVICES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        DeviceProfile("cpu", 0.15, 16_000, 4),
        DeviceProfile("8 GB", 18.0, 8_000),
        DeviceProfile("12 GB", 28.0, 12_000),
        DeviceProfile("16 GB", 40.0, 16_000),
        DeviceProfile("24 GB", 70.0, 24_000),
        DeviceProfile("48 GB", 90.0, 48_000),
        DeviceProfile("80 GB", 250.0, 80_000),
    )
}


RECOMPUTED = {"off": 0.0, "blocks": 0.5, "all": 1.0}
"""Share of the blocks that a level of gradient checkpointing computes twice."""
KEPT = {"off": 1.0, "blocks": 0.62, "all": 0.25}
"""Share of a picture's memory that is left at a level."""


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """Tell the length and size of a run. ``measured`` says whether the time rests on a measurement."""

    total_steps: int
    epochs: int
    steps_per_epoch: int
    seconds: float
    memory_mb: int
    fits: bool | None
    measured: bool
    reasons: tuple[str, ...]


def estimate(
    spec: RunSpec,
    image_count: int,
    *,
    device: DeviceProfile | None = None,
    model: ModelProfile | None = None,
    seconds_per_step: float | None = None,
    seconds_per_drawing: float | None = None,
) -> Estimate:
    """Estimate a run over ``image_count`` pictures.

    ``seconds_per_step`` and ``seconds_per_drawing`` (all sample prompts once) replace the rule of thumb when they were
    measured on an earlier run of the same shape.
    """
    training = spec.training
    samples = spec.samples(max(0, image_count - training.held_out_of(image_count)))
    plan = spec.plan([samples])
    profile = model or MODELS.get(spec.base_model.family, MODELS["sd"])
    machine = device or DEVICES["cpu"]
    area = (training.resolution / 512.0) ** 2
    per_picture = profile.gflops * area / 1000.0 / machine.tflops
    per_sample = per_picture * training.mean_pixels / training.resolution**2
    reasons: list[str] = []

    level = level_that_fits(
        training.gradient_checkpointing,
        lambda level: _memory_mb(spec, profile, machine, area, level),
        USABLE * machine.memory_mb,
    )
    measured = seconds_per_step is not None
    if seconds_per_step is None:
        # Forward, and a backward pass of about the same cost: the frozen weights need no gradient of their own.
        passes = 2.0 + 0.7 * RECOMPUTED[level]
        batch = min(training.batch_size, max(1, samples)) * training.gradient_accumulation
        seconds_per_step = 0.01 + passes * per_sample * batch
        reasons.append(_("The time is a rule of thumb until a run of this shape was measured."))
    sampling = spec.sampling
    drawings = 1 + times_left(0, plan, sampling.every_steps, sampling.every_epochs) if sampling.prompts else 0
    if seconds_per_drawing is None:
        pictures = len(sampling.prompts) * sampling.count
        guided = 2 if sampling.guidance > 1.0 else 1
        seconds_per_drawing = pictures * sampling.steps * guided * per_picture
    caching = image_count * len(training.sizes) * 0.5 * per_sample
    seconds = plan.total_steps * seconds_per_step + drawings * seconds_per_drawing + caching

    memory = _memory_mb(spec, profile, machine, area, level)
    fits = None if device is None else memory <= USABLE * machine.memory_mb
    if fits is False:
        reasons.append(
            _(
                "The run needs more memory than the device has; the engine would compute fewer pictures at once."
            )
        )
    return Estimate(
        plan.total_steps,
        plan.epochs,
        plan.steps_per_epoch,
        round(seconds, 1),
        memory,
        fits,
        measured,
        tuple(reasons),
    )


def level_that_fits(wanted: str, memory: Callable[[str], float], most: float) -> str:
    """Return the level of gradient checkpointing that is wanted; for auto the first that needs at most ``most``."""
    if wanted != "auto":
        return wanted
    return next((level for level in CHECKPOINTING if memory(level) <= most), CHECKPOINTING[-1])


def _memory_mb(
    spec: RunSpec, profile: ModelProfile, machine: DeviceProfile, area: float, level: str
) -> int:  # fmt: skip
    """Add up weights, what a batch keeps for the backward pass, and the adapter with its optimizer state."""
    width = machine.bytes_per_weight if spec.training.precision == "auto" else {"fp32": 4, "bf16": 2}[
        spec.training.precision
    ]  # fmt: skip
    weights = (
        profile.denoiser_m * QUANTISED_BYTES.get(spec.base_model.quantise, width) + profile.encoders_m * 4
    )
    kept = profile.activations_mb * area * spec.training.batch_size * width / 2
    kept *= KEPT[level]
    share = {"attn": 0.10, "attn-mlp": 0.22, "all": 0.40}[spec.method.targets]
    # A rank-r pair over a square layer of side n has 2 r n weights against n^2; fp32 with gradient and two moments.
    adapter = share * profile.denoiser_m * min(1.0, 2.0 * spec.method.rank / 640.0) * 16
    return math.ceil(weights + kept + adapter + 600)
