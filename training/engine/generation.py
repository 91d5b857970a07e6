# ruff: noqa: RUF009 - `setting` and `section` are dataclasses.field in disguise
"""What is drawn with finished LoRAs: every prompt, with each of its seeds, under each mix of LoRAs.

``GenerationSpec.from_dict`` is strict. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.engine.estimate import DeviceProfile
from training.engine.fields import FieldInfo, describe, section, setting
from training.engine.fields import gettext_noop as _
from training.engine.footprint import Setup, sampling_peak
from training.engine.parsing import SpecError, parse
from training.engine.profiles import profile_of
from training.engine.sections import BaseModelSpec
from training.engine.spec import digest

MOST_MIXES, MOST_LORAS, MOST_PICTURES = 16, 8, 256
MOST_OF_THE_SET = 200
"""Pictures of a set that drawn ones are compared with (``evaluate``)."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoraUse:
    """Name a LoRA file and how strongly it acts; ``version`` is whose file it is, for whoever asked."""

    file: str = setting(kind="path", label=_("LoRA file"), help=_("A .safetensors file of this base model."))
    strength: float = setting(
        1.0, kind="float", label=_("Strength"), minimum=-4.0, maximum=4.0,
        help=_("1 is as trained, 0 switches it off, below 0 turns it into its opposite."),
    )  # fmt: skip
    version: str = setting("", kind="str", label=_("Model version"), help=_("Whose file it is."))


Mix = tuple[LoraUse, ...]
"""LoRAs that act together; an empty one is the base model alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """Be one picture to draw; ``index`` counts all pictures of a specification, ``mix`` and ``prompt`` its lists."""

    index: int
    mix: int
    prompt: int
    seed: int


def _read_mixes(data: Any, pointer: str, errors: list[SpecError]) -> tuple[Mix, ...]:
    if not isinstance(data, list) or not all(isinstance(mix, list) for mix in data):
        errors.append(SpecError(pointer, "wrong_type", "expected a list of lists of LoRAs"))
        return ()
    if not 1 <= len(data) <= MOST_MIXES:
        message = f"{len(data)} mixes of LoRAs; from 1 to {MOST_MIXES} fit"
        errors.append(SpecError(pointer, "out_of_range", message))
    mixes = []
    for number, mix in enumerate(data[:MOST_MIXES]):
        if len(mix) > MOST_LORAS:
            message = f"{len(mix)} LoRAs at once are too many; at most {MOST_LORAS} fit"
            errors.append(SpecError(f"{pointer}/{number}", "too_long", message))
        uses = [parse(LoraUse, use, f"{pointer}/{number}/{place}", errors) for place, use in enumerate(mix)]
        mixes.append(tuple(use for use in uses if use is not None))
    return tuple(mixes)


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationSpec:
    """Hold one order for pictures. Build it with ``from_dict``."""

    base_model: BaseModelSpec = section(BaseModelSpec)
    prompts: tuple[str, ...] = setting(
        (), kind="list", label=_("Prompts"), help=_("What the pictures show; one line each.")
    )
    negative: str = setting(
        "", kind="str", label=_("Negative prompt"), help=_("What the pictures must not show.")
    )
    seed: int = setting(
        42, kind="int", label=_("Seed"), minimum=0, maximum=2**53,
        help=_("The same seed gives the same picture; further pictures count up from it."),
    )  # fmt: skip
    count: int = setting(
        1, kind="int", label=_("Pictures per prompt"), minimum=1, maximum=16, help=_("Each has its own seed.")
    )
    width: int = setting(
        512, kind="int", label=_("Width"), minimum=32, maximum=2048, unit=_("pixels"),
        help=_("A multiple of 8; pictures look best at the base model's own size."),
    )  # fmt: skip
    height: int = setting(
        512, kind="int", label=_("Height"), minimum=32, maximum=2048, unit=_("pixels"),
        help=_("A multiple of 8; pictures look best at the base model's own size."),
    )  # fmt: skip
    steps: int = setting(
        20, kind="int", label=_("Denoising steps"), minimum=1, maximum=100,
        help=_("More take longer and show finer detail; 20 is usual."),
    )  # fmt: skip
    guidance: float = setting(
        7.0, kind="float", label=_("Guidance"), minimum=1.0, maximum=50.0,
        help=_("How closely the pictures follow the prompt."),
    )  # fmt: skip
    precision: str = setting(
        "auto", kind="choice", choices=("auto", "fp32", "bf16"), label=_("Precision"),
        help=_("Numbers of the model; auto takes bf16 where the device has it."),
    )  # fmt: skip
    mixes: tuple[Mix, ...] = dataclasses.field(default=((),), metadata={"reader": _read_mixes})

    @classmethod
    def from_dict(cls, data: Any) -> GenerationSpec:
        """Parse a mapping; raise the first SpecError."""
        errors: list[SpecError] = []
        spec = parse(cls, data, "", errors)
        if spec is not None:
            errors.extend(_conflicts(spec))
        if errors:
            raise errors[0]
        assert spec is not None
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the whole order as JSON-ready data, defaults included."""
        data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return data

    def sha256(self) -> str:
        """Return the hex digest of the canonical JSON form."""
        return digest(self.to_dict())

    def pictures(self) -> Iterator[Picture]:
        """Yield every picture: mix by mix, prompt by prompt, seed by seed."""
        index = 0
        for mix in range(len(self.mixes)):
            for prompt in range(len(self.prompts)):
                for copy in range(self.count):
                    yield Picture(index, mix, prompt, self.seed + copy)
                    index += 1

    @property
    def total(self) -> int:
        """Return the number of pictures."""
        return len(self.mixes) * len(self.prompts) * self.count


def picture_path(run_dir: Path, index: int) -> Path:
    """Return where the picture with this index lies in a run folder."""
    return run_dir / "pictures" / f"{index:04d}.png"


def work(spec: GenerationSpec) -> float:
    """Return how much there is to compute: forward passes of the denoiser, counted as pictures of 512 x 512."""
    passes = spec.steps * (2 if spec.guidance > 1.0 else 1)
    return spec.total * passes * spec.width * spec.height / 512.0**2


def estimate_seconds(spec: GenerationSpec, device: DeviceProfile) -> float:
    """Return about how long the pictures take on a device once the model is loaded."""
    return work(spec) * profile_of(spec.base_model.family).forward_tflop(512) / device.tflops


def estimate_memory_mb(spec: GenerationSpec, device: DeviceProfile) -> int:
    """Return about the memory that drawing needs: all weights, and what decoding one picture takes."""
    setup = Setup(
        rank=0, weights="fp32" if device.bytes_per_weight == 4 else "bf16", encoders="kept",
        on_gpu=device.bytes_per_weight != 4, sample_px=math.ceil(math.sqrt(spec.width * spec.height)),
    )  # fmt: skip
    return sampling_peak(profile_of(spec.base_model.family), setup).total


def _conflicts(spec: GenerationSpec) -> list[SpecError]:
    found = []
    if not any(prompt.strip() for prompt in spec.prompts):
        found.append(SpecError("/prompts", "missing", "write at least one prompt"))
    for name in ("width", "height"):
        if (size := getattr(spec, name)) % 8:
            message = _("%(size)s is not a multiple of 8")
            found.append(SpecError(f"/{name}", "conflict", message, size=size))
    if spec.total > MOST_PICTURES:
        message = f"{spec.total} pictures are too many; at most {MOST_PICTURES} fit one order"
        found.append(SpecError("/count", "conflict", message))
    return found


FIELDS: dict[str, FieldInfo] = describe(GenerationSpec)
"""Every setting by JSON pointer, without the mixes."""
