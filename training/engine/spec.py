# ruff: noqa: RUF009 - `setting` and `section` are dataclasses.field in disguise
"""The run specification: everything a training run is told, its sections put together.

``RunSpec.from_dict`` and ``from_yaml`` are strict; ``FIELDS`` describes every setting for a form;
``RunSpec.plan`` computes steps and epochs. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from training.engine.data_sections import (
    BucketSpec,
    CaptionSpec,
    DatasetSpec,
    MaskSpec,
    PriorSpec,
    RegularisationSpec,
)
from training.engine.fields import FieldInfo, describe, section, setting
from training.engine.fields import gettext_noop as _
from training.engine.methods.rules import read_rule
from training.engine.parsing import SpecError, parse
from training.engine.sections import (
    CheckpointSpec,
    MethodSpec,
    OutputSpec,
    SamplingSpec,
    TrainedBaseSpec,
    is_hub_name,
)
from training.engine.training_section import TrainingSpec

__all__ = [
    "FIELDS",
    "BucketSpec",
    "CaptionSpec",
    "CheckpointSpec",
    "DatasetSpec",
    "MaskSpec",
    "MethodSpec",
    "OutputSpec",
    "PriorSpec",
    "RegularisationSpec",
    "RunSpec",
    "SamplingSpec",
    "SpecError",
    "StepPlan",
    "TrainedBaseSpec",
    "TrainingSpec",
    "is_in_recipe",
    "read_yaml",
    "validate",
]

T = TypeVar("T", DatasetSpec, RegularisationSpec)


WHOLE_SECTIONS = ("captions", "buckets", "masks", "prior", "method", "training")
"""Sections of which every setting decides the numbers of a run."""
SECTIONS_BUT_PATHS = ("dataset", "regularisation")
"""Sections of which every setting does, except where files lie."""
MEMORY_ALONE = ("/training/gradient_checkpointing", "/training/offload")
"""Of these the settings that change memory and speed and no number: a run may go on with others."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepPlan:
    """Give the length of a run: optimizer steps, epochs, and steps in one epoch."""

    total_steps: int
    epochs: int
    steps_per_epoch: int


@dataclasses.dataclass(frozen=True, slots=True)
class RunSpec:
    """Hold one whole recipe. Build it with ``from_dict`` or ``from_yaml``."""

    name: str = setting(
        kind="str", label=_("Name"), help=_("Name of the LoRA and of its file."), advanced=False
    )
    base_model: TrainedBaseSpec = section(TrainedBaseSpec)
    dataset: DatasetSpec = section(DatasetSpec)
    trigger: str = setting(
        "",
        kind="str",
        label=_("Trigger word"),
        advanced=False,
        help=_("Word that calls the LoRA in a prompt."),
    )
    captions: CaptionSpec = section(CaptionSpec)
    buckets: BucketSpec = section(BucketSpec)
    masks: MaskSpec = section(MaskSpec)
    regularisation: RegularisationSpec = section(RegularisationSpec)
    prior: PriorSpec = section(PriorSpec)
    method: MethodSpec = section(MethodSpec)
    training: TrainingSpec = section(TrainingSpec)
    sampling: SamplingSpec = section(SamplingSpec)
    checkpoint: CheckpointSpec = section(CheckpointSpec)
    output: OutputSpec = section(OutputSpec)
    run_dir: str | None = setting(
        None,
        kind="path",
        label=_("Run folder"),
        help=_("Where checkpoints, samples and finished files go; none is runs/ and the name."),
    )
    cache_dir: str | None = setting(
        None,
        kind="path",
        label=_("Cache folder"),
        help=_("Encoded pictures and captions, shared between runs."),
    )
    threads: int = setting(
        0, kind="int", label=_("CPU threads"), minimum=0, maximum=1024,
        help=_("0 measures which number is fastest."),
    )  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> RunSpec:
        """Parse a mapping; raise the first SpecError (``validate`` gives all)."""
        errors: list[SpecError] = []
        spec = parse(cls, data, "", errors)
        if spec is not None:
            errors.extend(_conflicts(spec))
        if errors:
            raise errors[0]
        assert spec is not None
        return spec

    @classmethod
    def from_yaml(cls, text: str, *, relative_to: Path | None = None) -> RunSpec:
        """Parse YAML text; paths in it are taken relative to ``relative_to`` when given."""
        spec = cls._from_file(_parsed(text))
        return spec if relative_to is None else spec.with_paths_under(relative_to)

    @classmethod
    def load(cls, path: Path) -> RunSpec:
        """Read a .yaml or .json file; its paths are relative to the file.

        Family and resolution that it does not say are those of its base model's folder.
        """
        folder = path.resolve().parent
        return cls._from_file(read_yaml(path), folder).with_paths_under(folder)

    @classmethod
    def _from_file(cls, data: Any, folder: Path | None = None) -> RunSpec:
        """Parse what a file holds, whose settings need no sections."""
        from training.engine.base_defaults import fill_in  # both are made from this module
        from training.engine.short_names import in_sections

        errors: list[SpecError] = []
        data = in_sections(data, errors)
        if errors:
            raise errors[0]
        if folder is not None:
            fill_in(data, folder)
        return cls.from_dict(data)

    def with_paths_under(self, folder: Path) -> RunSpec:
        """Return a copy whose relative paths start at ``folder``."""

        def absolute(path: str | None) -> str | None:
            return None if path is None else str((folder / path).absolute())

        def moved(section: T) -> T:
            names = [f.name for f in dataclasses.fields(section) if f.metadata["info"].kind == "path"]
            paths: dict[str, Any] = {name: absolute(getattr(section, name)) for name in names}
            return dataclasses.replace(section, **paths)

        return dataclasses.replace(
            self,
            base_model=dataclasses.replace(
                self.base_model,
                path=self._base_path(folder),
                config=absolute(self.base_model.config),
                training_adapter=absolute(self.base_model.training_adapter),
            ),
            dataset=moved(self.dataset),
            regularisation=moved(self.regularisation),
            run_dir=absolute(self.run_dir),
            cache_dir=absolute(self.cache_dir),
        )

    def _base_path(self, folder: Path) -> str:
        path = self.base_model.path
        there = folder / path
        return path if is_hub_name(path) and not there.exists() else str(there.absolute())

    def to_dict(self) -> dict[str, Any]:
        """Return the whole spec as JSON-ready data, defaults included."""
        data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return data

    def to_yaml(self) -> str:
        """Return the whole spec as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def sha256(self) -> str:
        """Return the hex digest of the canonical JSON form."""
        return digest(self.to_dict())

    def recipe(self) -> dict[str, Any]:
        """Return what decides the numbers of the run: no paths, names, samples or cadences."""
        data = self.to_dict()
        recipe = {key: data[key] for key in ("trigger", *WHOLE_SECTIONS)}
        recipe["base_model"] = {"family": self.base_model.family, "quantise": self.base_model.quantise}
        for name in SECTIONS_BUT_PATHS:
            recipe[name] = {key: value for key, value in data[name].items() if is_in_recipe(f"/{name}/{key}")}
        return recipe

    def recipe_sha256(self) -> str:
        """Return the hex digest of ``recipe``."""
        return digest(self.recipe())

    def samples(self, pictures: int) -> int:
        """Return the samples of an epoch for so many trained pictures, each large enough for every resolution."""
        samples = pictures * self.dataset.repeats * len(self.training.sizes)
        return samples + (self.regularisation.samples(samples) if self.mixes_in else 0)

    @property
    def mixes_in(self) -> bool:
        """Tell whether an epoch has regularisation pictures: given, drawn by the base model, or of the set itself."""
        return self.regularisation.is_on or self.prior.is_on

    @property
    def class_share(self) -> float:
        """Return about which share of the samples is of regularisation pictures."""
        return self.regularisation.ratio / (1.0 + self.regularisation.ratio) if self.mixes_in else 0.0

    def plan(self, bucket_sizes: Iterable[int]) -> StepPlan:
        """Compute steps and epochs from the samples in each bucket (repeats counted, held-out ones not)."""
        training = self.training
        batches = sum(math.ceil(size / training.batch_size) for size in bucket_sizes if size > 0)
        steps_per_epoch = max(1, math.ceil(batches / training.gradient_accumulation))
        if training.steps is not None:
            return StepPlan(training.steps, math.ceil(training.steps / steps_per_epoch), steps_per_epoch)
        epochs = training.epochs if training.epochs is not None else 10
        return StepPlan(epochs * steps_per_epoch, epochs, steps_per_epoch)


def read_yaml(path: Path) -> Any:
    """Return what a .yaml or .json file holds, unchecked; raise SpecError if it cannot be read as such."""
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SpecError("", "wrong_type", f"{path.name} is not UTF-8 text") from error


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        raise SpecError("", "wrong_type", f"this is not valid YAML{where}") from error


def digest(data: Mapping[str, Any]) -> str:
    """Return the hex digest of a mapping's canonical JSON form."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_in_recipe(pointer: str) -> bool:
    """Tell whether a setting of a section decides the numbers of a run; what lies at a path is told by its content."""
    section = pointer.strip("/").partition("/")[0]
    if section in SECTIONS_BUT_PATHS:
        return FIELDS[pointer].kind != "path"
    return section in WHOLE_SECTIONS or pointer == "/base_model/quantise"


def _conflicts(spec: RunSpec) -> list[SpecError]:
    """Find settings that are each fine and together are not."""
    found: list[SpecError] = []

    def conflict(pointer: str, message: str, **values: int) -> None:
        found.append(SpecError(pointer, "conflict", message, **values))

    if (spec.dataset.manifest is None) == (spec.dataset.folder is None):
        conflict("/dataset", "give either a manifest or a folder of pictures")
    if spec.training.steps is not None and spec.training.epochs is not None:
        conflict("/training/epochs", "give steps or epochs, not both")
    for pointer, size in _sizes(spec):
        if size % 8:
            conflict(pointer, _("%(size)s is not a multiple of 8"), size=size)
    if any(size > spec.training.resolution for size in spec.training.resolutions):
        conflict("/training/resolutions", _("none of them may be larger than the resolution"))
    smallest, largest = spec.buckets.smallest_side, spec.buckets.largest_side
    if smallest is not None and smallest > spec.training.sizes[-1]:
        conflict("/buckets/smallest_side", _("it must not be larger than the smallest resolution"))
    if largest is not None and largest < spec.training.resolution:
        conflict("/buckets/largest_side", _("it must not be smaller than the resolution"))
    if spec.training.steps is not None and spec.training.warmup_steps >= spec.training.steps:
        conflict("/training/warmup_steps", "the warm-up must be shorter than the run")
    if spec.training.timestep_min >= spec.training.timestep_max:
        conflict("/training/timestep_max", "the highest noise level must be above the lowest")
    if spec.training.optimizer == "prodigy" and spec.training.learning_rate < 0.01:
        conflict("/training/learning_rate", "prodigy multiplies its own estimate by this: 1 is usual")
    if spec.training.optimizer == "schedule-free" and spec.training.schedule != "constant":
        conflict(
            "/training/schedule", "schedule-free takes the place of a falling learning rate: choose constant"
        )
    if spec.training.optimizer == "schedule-free" and spec.training.ema_decay is not None:
        conflict("/training/ema_decay", "schedule-free averages its steps itself: leave this empty")
    if spec.training.offload == "on" and spec.base_model.quantise in ("int8", "nf4"):
        conflict("/base_model/quantise", "weights that come and go cannot be quantised: turn one of them off")
    if spec.training.compile != "off" and spec.training.offload != "off":
        conflict("/training/compile", "weights that come and go cannot be compiled: turn one of them off")
    if spec.sampling.every_steps is not None and spec.sampling.every_epochs is not None:
        conflict("/sampling/every_steps", "count steps or epochs between samples, not both")
    if spec.checkpoint.every_steps is not None and spec.checkpoint.every_epochs is not None:
        conflict("/checkpoint/every_steps", "count steps or epochs between checkpoints, not both")
    if spec.regularisation.manifest is not None and spec.regularisation.folder is not None:
        conflict("/regularisation", "give either a manifest or a folder of regularisation pictures")
    has_pictures = spec.regularisation.is_on and not spec.prior.count
    if spec.prior.is_on and not spec.prior.prompt.strip() and not has_pictures:
        conflict("/prior/prompt", "say what the pictures of the class show, for example: a photo of a dog")
    if spec.prior.is_on and spec.method.type == "textual_inversion":
        conflict("/prior", "textual inversion changes nothing but its word, so there is nothing to keep")
    if "{trigger}" in spec.regularisation.template:
        conflict("/regularisation/template", "regularisation pictures must not have the trigger word")
    own = [spec.dataset.held_out_manifest, spec.dataset.held_out_folder]
    if None not in own:
        conflict("/dataset", "give either a manifest or a folder of held-out pictures")
    if spec.training.held_out and spec.training.held_out_count is not None:
        conflict("/training/held_out_count", "hold out a share or a number of pictures, not both")
    if own != [None, None] and (spec.training.held_out or spec.training.held_out_count is not None):
        conflict(
            "/training/held_out", "held-out pictures of their own and a part of the set do not go together"
        )
    if spec.training.held_out_steady and not spec.training.held_out:
        conflict("/training/held_out_steady", "it needs a held-out share")
    for name in ("shuffle_tags", "tag_dropout"):
        if spec.captions.style == "sentences" and getattr(spec.captions, name):
            conflict(f"/captions/{name}", "sentences have no tags; choose tags or auto for the captions")
    if spec.method.factor is not None and spec.method.type != "lokr":
        conflict("/method/factor", "the block size is for the method lokr only")
    if spec.method.type == "textual_inversion":
        if not spec.trigger:
            conflict("/trigger", "textual inversion needs a trigger word, which becomes the new word")
        if "{trigger}" not in spec.captions.template:
            conflict("/captions/template", "the template must contain {trigger}, the word that is learned")
        if spec.method.text_encoder:
            conflict("/method/text_encoder", "textual inversion leaves the text encoder as it is")
    for line in spec.method.rules:
        try:
            read_rule(line)
        except ValueError as error:
            conflict("/method/rules", str(error))
    if "{caption}" not in spec.captions.template and "{trigger}" not in spec.captions.template:
        conflict("/captions/template", "the template must contain {caption} or {trigger}")
    return found


def _sizes(spec: RunSpec) -> list[tuple[str, int]]:
    """List settings that are sides of pictures, with their places."""
    found = [("/training/resolution", spec.training.resolution)]
    found += [("/training/resolutions", size) for size in spec.training.resolutions]
    if spec.buckets.step is not None:
        found.append(("/buckets/step", spec.buckets.step))
    return found


def validate(data: Any) -> list[SpecError]:
    """Return everything that is wrong with a mapping; an empty list means it can be parsed."""
    errors: list[SpecError] = []
    spec = parse(RunSpec, data, "", errors)
    if spec is not None:
        errors.extend(_conflicts(spec))
    return errors


FIELDS: dict[str, FieldInfo] = describe(RunSpec)
"""Every setting by JSON pointer, in the order of the file."""
