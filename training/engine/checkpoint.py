"""Resumable checkpoints: a folder of safetensors and JSON with a manifest of hashes, never a pickle.

Written aside, synced, renamed; only then are old ones deleted. A folder whose manifest does not match is passed over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.engine.errors import ConfigurationError, DiskError
from training.engine.spec import FIELDS, MEMORY_ALONE, is_in_recipe

FORMAT = 1
FILES = ("adapter.safetensors", "optimizer.safetensors", "state.json")


@dataclasses.dataclass
class TrainState:
    """Hold the counters that a resumed run needs beside the tensors."""

    step: int = 0
    micro_batch: int = 1
    gradient_checkpointing: str = "off"
    quantise: str = "none"
    offload: str = "off"
    compile: str = "off"
    threads: int = 0
    learning_rate_scale: float = 1.0
    skipped_steps: int = 0
    rollbacks: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Identity:
    """Name what a checkpoint belongs to: it may only be resumed with the same."""

    recipe: dict[str, Any]
    dataset_sha256: str
    base_sha256: str
    total_steps: int
    precision: str
    engine_version: str

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """List in words what differs from a saved identity, numbers included."""
        found: list[str] = []
        _compare("", _as_read_now(saved.get("recipe", {})), self.recipe, found)
        if saved.get("dataset_sha256") != self.dataset_sha256:
            found.append("the picture set has changed")
        if saved.get("base_sha256") != self.base_sha256:
            found.append("the base model has changed")
        if saved.get("total_steps") != self.total_steps:
            found.append(f"total steps was {saved.get('total_steps')}, is {self.total_steps}")
        if saved.get("precision") != self.precision:
            found.append(f"precision was {saved.get('precision')}, is {self.precision}")
        return found


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Be a checkpoint read back."""

    path: Path
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: TrainState
    identity: dict[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        """Return the recipe it was made with, as it would be read today."""
        return _as_read_now(self.identity.get("recipe", {}))


def save(
    folder: Path, *, adapter: dict[str, Tensor], optimizer: dict[str, Tensor], state: TrainState, identity: Identity,
    keep: int,
) -> Path:  # fmt: skip
    """Write ``folder/step-XXXXXXXX`` and return it; raise DiskError when there is no room for it."""
    folder.mkdir(parents=True, exist_ok=True)
    need = sum(t.numel() * t.element_size() for t in (*adapter.values(), *optimizer.values()))
    free = shutil.disk_usage(folder).free
    if free < 2 * need + 2**20:
        raise DiskError(
            "disk_full", f"a checkpoint of {need / 2**20:.0f} MB does not fit: {free / 2**20:.0f} MB are free",
            hint="Free some space, or keep fewer checkpoints; then resume.",
        )  # fmt: skip
    final = folder / f"step-{state.step:08d}"
    aside = folder / f".tmp-{os.getpid()}-{final.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        save_file(adapter, aside / FILES[0])
        save_file(optimizer, aside / FILES[1])
        content = {"format": FORMAT, **dataclasses.asdict(state), "identity": dataclasses.asdict(identity)}
        (aside / FILES[2]).write_text(json.dumps(content, indent=1))
        manifest = {name: _fingerprint(aside / name) for name in FILES}
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for name in (*FILES, "manifest.json"):
            _sync(aside / name)
        _sync(aside)
        if final.exists():
            shutil.rmtree(final)
        os.replace(aside, final)
        _sync(folder)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        shutil.rmtree(aside, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise DiskError(
            "disk_write_failed", f"the checkpoint could not be written: {reason}",
            hint="Free some space, or keep fewer checkpoints; then resume.",
        ) from error  # fmt: skip
    _prune(folder, keep)
    return final


def load(path: Path) -> Loaded:
    """Read one checkpoint folder; raise ValueError if anything in it is not as it was written."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name in FILES:
            if manifest[name] != _fingerprint(path / name):
                raise ValueError(f"{path.name}/{name} is damaged")
        content = json.loads((path / FILES[2]).read_text())
        if content.pop("format") != FORMAT:
            raise ValueError(f"{path.name} has another format")
        identity = content.pop("identity")
        level = FIELDS["/training/gradient_checkpointing"]
        content["gradient_checkpointing"] = level.meant(content["gradient_checkpointing"])
        return Loaded(
            path, load_file(path / FILES[0]), load_file(path / FILES[1]), TrainState(**content), identity
        )
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a whole checkpoint") from error


def find(folder: Path) -> list[Path]:
    """List checkpoint folders, the newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def load_newest(wanted: Path) -> tuple[Loaded | None, list[str]]:
    """Read a checkpoint, or the newest whole one before it; return also what was passed over, in words.

    ``wanted`` is a ``step-*`` folder, or a ``checkpoints`` folder of which the newest is meant.
    """
    if wanted.name.startswith("step-"):
        candidates = [wanted, *(p for p in find(wanted.parent) if p.name < wanted.name)]
    else:
        candidates = find(wanted)
    passed: list[str] = []
    for path in candidates:
        try:
            return load(path), passed
        except ValueError as error:
            passed.append(str(error))
    return None, passed


def require_same(identity: Identity, loaded: Loaded) -> None:
    """Raise ConfigurationError that names each difference between a checkpoint's recipe and this run's."""
    differences = identity.differences(loaded.identity)
    if differences:
        raise ConfigurationError(
            "recipe_changed", f"{loaded.path.name} cannot be resumed: {'; '.join(differences)}",
            hint="Resume with the unchanged recipe, or start a new run.",
        )  # fmt: skip


def _as_read_now(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a saved recipe as it would be read today: settings that came since then have their defaults."""
    read = {name: dict(part) if isinstance(part, dict) else part for name, part in recipe.items()}
    for pointer, info in FIELDS.items():
        section, _, name = pointer.strip("/").partition("/")
        if name and is_in_recipe(pointer) and isinstance(part := read.setdefault(section, {}), dict):
            part[name] = info.meant(part.get(name, info.default))
    return read


def _compare(pointer: str, old: Any, new: Any, found: list[str]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            _compare(f"{pointer}/{key}", old.get(key), new.get(key), found)
    elif old != new and pointer not in MEMORY_ALONE:
        found.append(f"{pointer} was {json.dumps(old)}, is {json.dumps(new)}")


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _prune(folder: Path, keep: int) -> None:
    for old in find(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    for rest in folder.glob(".tmp-*"):
        shutil.rmtree(rest, ignore_errors=True)
