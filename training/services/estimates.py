"""Say before the start how long a run takes, what memory it needs and what waits ahead of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from django.db.models import DurationField, F, Sum
from django.db.models.functions import Coalesce

from accounts.models import Team
from training.engine.estimate import (
    DEVICES,
    KEPT,
    MODELS,
    RECOMPUTED,
    DeviceProfile,
    estimate,
    level_that_fits,
)
from training.engine.spec import RunSpec, TrainingSpec
from training.models import FoundationModel, TrainingJob
from training.queue.policy import class_of_gpu, class_of_need
from training.services.recipes import best_device
from training.states import JobState

# How many finished runs the speed is taken from.
RUNS_LOOKED_AT = 8
# The demo model on one processor core, before any run was measured: training pixels a second, seconds around them.
_DEMO = (24.0 * 64 * 64, 30.0)
# Loading and encoding, beside what the engine's own rule of thumb counts.
_SECONDS_AROUND = 60.0
# What of a model's memory grows with the pictures in a batch.
_SHARE_OF_PICTURES = 0.25
# How long a job ran: its attempts together, without what it waited or rested between them.
RAN = Coalesce(
    Sum(F("attempts__ended_at") - F("attempts__started_at"), output_field=DurationField()),
    F("finished_at") - F("started_at"),
    output_field=DurationField(),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold the forecast of one run. `measured` tells that the times come from earlier runs of this team.

    `views` is how often each training picture is seen; `memory_mb` is 0 when the base model's need is not known.
    """

    images: int
    held_out: int
    steps: int
    epochs: int
    steps_per_epoch: int
    views: int
    seconds: int
    measured: bool
    memory_mb: int
    device_mb: int

    @property
    def fits(self) -> bool:
        """Tell whether the memory suffices, as far as both sides are known."""
        return not (self.memory_mb and self.device_mb) or class_of_need(self.memory_mb) <= class_of_gpu(
            self.device_mb
        )

    @property
    def minutes(self) -> int:
        """Give the duration in whole minutes, at least one."""
        return max(1, round(self.seconds / 60))

    @property
    def memory_percent(self) -> int:
        """Give the share of the device's memory that is needed, at most 100."""
        return min(100, round(100 * self.memory_mb / self.device_mb)) if self.device_mb else 0


def estimate_run(
    spec: RunSpec, base: FoundationModel, *, team: Team, pictures: int, gpus: int = 1
) -> Estimate:
    """Return the forecast for `spec` on a set of `pictures`, on so many GPUs (two queries)."""
    held_out = spec.training.held_out_of(pictures)
    images = max(1, pictures - held_out)
    plan = spec.plan([spec.samples(images)])
    pictures_per_step = spec.training.batch_size * spec.training.gradient_accumulation
    device = best_device()
    # Processors of one machine share its cores: several slots of them are no faster than one.
    split = min(gpus, pictures_per_step) if device.memory_mb else 1
    guess = estimate(spec, pictures, device=device_profile(device.memory_mb))
    measured = _measured(base, team)
    if measured or base.is_demo:
        speed, around = measured or _DEMO
        level = _level(spec, base, device.memory_mb)
        speed /= 1 + RECOMPUTED[level] / 3
        seconds = plan.total_steps * pictures_per_step * spec.training.mean_pixels / speed / split + around
    else:
        seconds = guess.seconds / split + _SECONDS_AROUND
    knows_family = spec.base_model.family in MODELS and not base.is_demo
    return Estimate(
        images=images,
        held_out=held_out,
        steps=plan.total_steps,
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        views=max(1, round(plan.total_steps * pictures_per_step / images)),
        seconds=math.ceil(seconds),
        measured=measured is not None,
        memory_mb=guess.memory_mb
        if knows_family
        else _memory_mb(spec, base, _level(spec, base, device.memory_mb)),
        device_mb=device.memory_mb,
    )


def device_profile(memory_mb: int) -> DeviceProfile:
    """Return the engine's profile of the largest device that is not larger than ours."""
    smaller = [each for each in DEVICES.values() if each.name != "cpu" and each.memory_mb <= memory_mb * 1.1]
    return max(smaller, key=lambda each: each.memory_mb) if smaller else DEVICES["cpu"]


def _level(spec: RunSpec, base: FoundationModel, device_mb: int) -> str:
    """Return the level of gradient checkpointing that a run will have; on a processor memory is not counted."""
    wanted = spec.training.gradient_checkpointing
    return level_that_fits(wanted, lambda level: _memory_mb(spec, base, level), device_mb or math.inf)


def _memory_mb(spec: RunSpec, base: FoundationModel, level: str) -> int:
    """Return the memory a run needs in MB; the base model names what one picture at its own resolution needs."""
    if not base.memory_mb:
        return 0
    pictures = spec.training.batch_size * (spec.training.resolution / base.resolution) ** 2
    pictures *= KEPT[level]
    return round(base.memory_mb * (1 - _SHARE_OF_PICTURES + _SHARE_OF_PICTURES * pictures))


def _measured(base: FoundationModel, team: Team) -> tuple[float, float] | None:
    """Return (training pixels a second, seconds around the steps) of the team's last runs on this base model."""
    rows = (
        TrainingJob.objects.for_team(team)
        .filter(
            foundation_model=base,
            state=JobState.SUCCEEDED,
            steps_per_second__gt=0,
            gpus=1,
            started_at__isnull=False,
        )
        .annotate(ran=RAN)
        .order_by("-finished_at")
        .values_list(
            "steps_per_second",
            "step",
            "ran",
            "spec__training__batch_size",
            "spec__training__gradient_accumulation",
            "spec__training__resolution",
            "spec__training__resolutions",
        )[:RUNS_LOOKED_AT]
    )
    speeds, around = [], []
    for rate, step, ran, batch, accumulation, resolution, smaller in rows:
        sizes = TrainingSpec(resolution=resolution, resolutions=tuple(smaller or ()))
        speeds.append(rate * batch * accumulation * sizes.mean_pixels)
        around.append(max(0.0, ran.total_seconds() - step / rate))
    return (median(speeds), median(around)) if speeds else None
