"""Say how many pictures a device takes at once, by the trainer's own reckoning. Pure: no database, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.engine.estimate import MODELS, DeviceProfile, largest_batch
from training.engine.parsing import convert
from training.engine.spec import (
    FIELDS,
    MethodSpec,
    RunSpec,
    SamplingSpec,
    SpecError,
    TrainedBaseSpec,
    TrainingSpec,
)

# What the memory of a run depends on, beside the base model and the batch.
DECISIVE = (
    "/base_model/quantise",
    "/method/type",
    "/method/rank",
    "/method/targets",
    "/method/text_encoder",
    "/training/optimizer",
    "/training/ema_decay",
    "/training/resolution",
    "/training/resolutions",
    "/training/precision",
    "/training/gradient_checkpointing",
    "/training/offload",
)


def is_known(family: str) -> bool:
    """Tell whether the sizes of a family are known; those of a plugin's are not."""
    return family in MODELS


def decisive(chosen: Mapping[str, Any], recommended: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `DECISIVE` settings by JSON pointer: the person's own where they can be used, else the recommended."""
    found = {}
    for pointer in DECISIVE:
        try:
            found[pointer] = convert(FIELDS[pointer], chosen[pointer], pointer)
        except (KeyError, SpecError):
            found[pointer] = convert(FIELDS[pointer], recommended[pointer], pointer)
    return found


def pictures_at_once(family: str, settings: Mapping[str, Any], memory_mb: int, most: int) -> int:
    """Return how many pictures fit so many MB with all the `decisive` settings: a power of two up to `most`, or 0."""
    sections: dict[str, dict[str, Any]] = {"base_model": {}, "method": {}, "training": {}}
    for pointer, value in settings.items():
        section, name = pointer.strip("/").split("/")
        sections[section][name] = value
    spec = RunSpec(
        name="",
        base_model=TrainedBaseSpec(path="", family=family, **sections["base_model"]),
        method=MethodSpec(**sections["method"]),
        training=TrainingSpec(**sections["training"]),
        # Decoding one sample may take more than a step; how many there are does not matter.
        sampling=SamplingSpec(prompts=("",)),
    )
    device = DeviceProfile(name="", tflops=1.0, memory_mb=memory_mb)
    fitting = largest_batch(spec, device, most=most)
    return 1 << (fitting.bit_length() - 1) if fitting else 0
