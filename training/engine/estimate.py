"""How long a run will take and how much memory it needs, from its specification alone.

Memory comes from the sizes in ``profiles`` (``footprint`` adds them up); how far that is from measured runs is in
docs/estimate.md. Time is a rule of thumb and says so, until a step was measured.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable

from training.engine.cadence import times_left
from training.engine.fields import gettext_noop as _
from training.engine.footprint import WEIGHT_BYTES, Setup, adapted_layers, fitted, host_mb, peak, ways
from training.engine.memory_plan import USABLE
from training.engine.profiles import MODELS, ModelProfile, profile_of
from training.engine.spec import RunSpec
from training.engine.training_section import CHECKPOINTING

__all__ = [
    "DEVICES",
    "KEPT",
    "MODELS",
    "RECOMPUTED",
    "DeviceProfile",
    "Estimate",
    "ModelProfile",
    "estimate",
    "largest_batch",
    "level_that_fits",
]

RECOMPUTED = {"off": 0.0, "blocks": 0.5, "all": 1.0}
"""Share of the blocks that a level of gradient checkpointing computes twice."""
KEPT = {"off": 1.0, "blocks": 0.62, "all": 0.25}
"""Share of a picture's memory that is left at a level, for models that have no profile."""

MOST_PICTURES = 64
"""Larger batches are not looked for: nobody trains a LoRA with them."""
STEP_OVERHEAD = 0.01
"""Seconds of a step that do not depend on the model: sampling, the optimizer, the loop."""
LAYER_SECONDS = 0.001
"""Time on the host for each adapted layer and step, which a fast GPU waits for: 31.6 ms for the 32 of a tiny UNet."""
QUANTISED_FACTOR = 1.35
"""Weights written out for each product cost time (Krea 2 at 1024 pixels on an H100: 1.330 s after 0.990 s)."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Give a device's useful speed (TFLOP/s reached in training, not the data sheet's) and its memory."""

    name: str
    tflops: float
    memory_mb: int
    bytes_per_weight: int = 2


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


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """Tell the length and size of a run. ``measured`` says whether the time rests on a measurement.

    ``largest_batch`` is how many pictures at once fit the device, 0 if not even one does, None without a device.
    """

    total_steps: int
    epochs: int
    steps_per_epoch: int
    seconds: float
    memory_mb: int
    fits: bool | None
    measured: bool
    reasons: tuple[str, ...]
    host_mb: int = 0
    largest_batch: int | None = None


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
    profile = model or profile_of(spec.base_model.family)
    machine = device or DEVICES["cpu"]
    setup = fitted(profile, spec, USABLE * machine.memory_mb, weight_bytes=machine.bytes_per_weight)
    per_picture = profile.forward_tflop(training.resolution) / machine.tflops
    # At several resolutions a picture of the mean size stands for all.
    mean = training.mean_pixels / training.resolution**2
    reasons: list[str] = []

    measured = seconds_per_step is not None
    if seconds_per_step is None:
        batch = min(training.batch_size, max(1, samples)) * training.gradient_accumulation
        seconds_per_step = mean * step_seconds(profile, dataclasses.replace(setup, batch=batch), machine)
        if spec.prior.teacher:  # half as much again for each sample of the class: one more forward pass
            seconds_per_step *= 1.0 + 0.5 * spec.class_share
        reasons.append(_("The time is a rule of thumb until a run of this shape was measured."))
    sampling = spec.sampling
    drawings = 1 + times_left(0, plan, sampling.every_steps, sampling.every_epochs) if sampling.prompts else 0
    if seconds_per_drawing is None:
        pictures = len(sampling.prompts) * sampling.count
        guided = 2 if sampling.guidance > 1.0 else 1
        seconds_per_drawing = pictures * sampling.steps * guided * per_picture
    caching = image_count * len(training.sizes) * 0.5 * mean * per_picture
    prior = spec.prior
    of_the_class = prior.count * prior.steps * (1 if prior.guidance == 1.0 else 2) * per_picture
    seconds = plan.total_steps * seconds_per_step + drawings * seconds_per_drawing + caching + of_the_class

    memory = peak(profile, setup).total
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
        host_mb(profile, setup),
        None if device is None else largest_batch(spec, device, model=profile),
    )


def step_seconds(model: ModelProfile, setup: Setup, device: DeviceProfile) -> float:
    """Return about how long one step with ``setup.batch`` pictures takes on a device.

    A step is two forward passes' worth of work, since the backward pass computes the gradient of inputs and not of
    frozen weights, and what is computed twice.
    """
    passes = 2.0 + RECOMPUTED[setup.checkpointing]
    work = passes * model.forward_tflop(setup.resolution, setup.frames) * setup.batch
    slower = QUANTISED_FACTOR if WEIGHT_BYTES[setup.weights] < 2.0 else 1.0
    host = LAYER_SECONDS * adapted_layers(model, setup.targets) * passes / 2.0
    return STEP_OVERHEAD + max(slower * work / device.tflops, host)


def largest_batch(
    spec: RunSpec, device: DeviceProfile, *, model: ModelProfile | None = None, most: int = MOST_PICTURES
) -> int:
    """Return how many pictures at once fit a device, everything else as the specification says; 0 if none do."""
    profile = model or profile_of(spec.base_model.family)
    every = list(ways(spec, weight_bytes=device.bytes_per_weight))

    def needed(batch: int) -> int:
        return min(peak(profile, dataclasses.replace(setup, batch=batch)).total for setup in every)

    return bisect.bisect_right(range(1, most + 1), USABLE * device.memory_mb, key=needed)


def level_that_fits(wanted: str, memory: Callable[[str], float], most: float) -> str:
    """Return the level of gradient checkpointing that is wanted; for auto the first that needs at most ``most``."""
    if wanted != "auto":
        return wanted
    return next((level for level in CHECKPOINTING if memory(level) <= most), CHECKPOINTING[-1])
