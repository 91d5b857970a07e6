"""Bake LoRA files into the weights of a base model: a new folder, one file of weights in memory at a time."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.engine.errors import ConfigurationError, DataError
from training.engine.families import folder as folders
from training.engine.lora_files import reading, writing
from training.engine.lora_files.base_weights import keys_of, weight_key
from training.engine.lora_files.mapping import Mapped, mapped
from training.engine.methods.changes import Change

NOTE = "lora_foundry.json"
"""A file beside the model's index that says what was baked in."""
UNCHANGED = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.msgpack", "*.onnx", ".*")
"""Weights that would still be those of the base model: left out, and so is what is hidden."""


@dataclasses.dataclass(frozen=True)
class Baked:
    """Say how many layers were changed, and which parts of the base model were not copied."""

    layers: int
    left_out: Sequence[str]


def bake(sources: Sequence[tuple[Path, float]], base: Path, out: Path, *, force: bool = False) -> Baked:
    """Write a copy of a base model whose weights have all files added, each so many times as strong.

    DoRA sets the lengths of the untouched weights. Raise ConfigurationError if ``out`` is there, DataError for a file
    that is not for this model or weights that are then not finite.
    """
    _require_free(out, base, force)
    files = [reading.read(path) for path, _ in sources]
    found = [mapped(file, base=base) for file in files]
    index = folders.read_index(base)
    found[0].model.require_one_denoiser()
    strengths = [strength for _, strength in sources]
    changes = _by_component(found, strengths)
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        left_out = _copy(base, aside, index, changes)
        for component, layers in changes.items():
            _rewrite(base / component, aside / component, layers)
        note = writing.combined(files, "bake", strengths)["lora_foundry.made"]
        (aside / NOTE).write_text(note, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Baked(sum(map(len, changes.values())), left_out)


def _require_free(out: Path, base: Path, force: bool) -> None:
    holds_base = base.resolve().is_relative_to(out.resolve())
    ours = force and (out / "model_index.json").is_file() and not holds_base
    if out.exists() and not ours:
        raise ConfigurationError(
            "output_exists", f"{out} is there already",
            hint="Choose another folder; --force replaces a model, but never the base model itself.",
        )  # fmt: skip


def _by_component(found: Sequence[Mapped], strengths: Sequence[float]) -> dict[str, dict[str, list[Change]]]:
    changes: dict[str, dict[str, list[Change]]] = defaultdict(lambda: defaultdict(list))
    for each, strength in zip(found, strengths, strict=True):
        for delta in each.deltas:
            component = each.model.component(delta.part)
            changes[component][delta.module].append(delta.change.times(strength))
    return changes


def _copy(base: Path, out: Path, index: Mapping[str, object], changes: Mapping[str, object]) -> list[str]:
    """Copy all but the weights of components that are changed; return what is left out."""
    out.mkdir(parents=True)
    left_out = []
    for path in sorted(base.iterdir()):
        if path.is_dir() and path.name in index:
            patterns = UNCHANGED if path.name in changes else ()
            # What is changed is written afterwards.
            written = ("*.safetensors",) if path.name in changes else ()
            shutil.copytree(path, out / path.name, ignore=shutil.ignore_patterns(*patterns, *written))
            left_out += [
                f"{path.name}/{each.name}" for pattern in patterns for each in sorted(path.glob(pattern))
            ]
        elif path.is_file() and path.suffix in (".json", ".md", ".txt"):
            shutil.copy2(path, out)
        else:
            left_out.append(path.name)
    return left_out


def _rewrite(source: Path, target: Path, layers: Mapping[str, list[Change]]) -> None:
    """Write each safetensors file of a component with its layers changed, and all variants alike."""
    paths = sorted(source.glob("*.safetensors"))
    if not paths:
        raise ConfigurationError(
            "base_model_incomplete", f"{source} holds no .safetensors file",
            hint="Save the model again with safe_serialization=True.",
        )  # fmt: skip
    names = [key for path in paths for key in keys_of(path)]
    by_key = {}
    for module, changes in layers.items():
        key = weight_key(module, names)
        if key is None:
            raise DataError("base_model_weights", f"{source} has no weight of {module!r}")
        by_key[key] = changes
    for path in paths:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
        for key in content.keys() & by_key.keys():
            content[key] = _changed(f"{path.name}: {key}", content[key], by_key[key])
        save_file(content, target / path.name, metadata=about)


def _changed(name: str, weight: Tensor, changes: Sequence[Change]) -> Tensor:
    total = torch.stack([change.change_of(weight) for change in changes]).sum(0)
    new = (weight.float() + total.view(weight.shape)).to(weight.dtype)
    if not bool(torch.isfinite(new).all()):
        raise DataError(
            "bake_not_finite", f"{name} is not finite any more", hint="Use a smaller strength, e.g. FILE:0.5."
        )
    return new
