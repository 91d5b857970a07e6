"""Look at the pictures of a run before it starts, and say what is likely to disappoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from training.engine.data.dataset import Dataset
from training.engine.data.manifest import SUFFIXES
from training.engine.estimate import DeviceProfile
from training.engine.hints import Advice, SetFacts, facts_of, warnings_for
from training.engine.registry import load_family
from training.engine.spec import DatasetSpec, RunSpec


def look(spec: RunSpec) -> list[Advice]:
    """Read the pictures of a specification and return the warnings; raise DataError for what cannot be read."""
    divisor = load_family(spec.base_model.family).divisor
    return warnings_for(spec, facts(Dataset(spec, divisor), divisor=divisor))


def facts(
    dataset: Dataset, *, divisor: int, device: torch.device | None = None, run_dir: Path | None = None
) -> SetFacts:
    """Return what is known of a prepared set; with a GPU and a run folder also what fits into them."""
    rows = ((each.item.caption, each.original, each.item.sha256) for each in dataset.pictures)
    return facts_of(
        rows, buckets=dataset.bucket_samples, held_out=len(dataset.held_out),
        orphans=_orphans(dataset.spec.dataset), divisor=divisor, device=_profile(device),
        disk_free_mb=_free_mb(run_dir),
    )  # fmt: skip


def _orphans(dataset: DatasetSpec) -> int:
    """Count caption files of a folder that belong to no picture."""
    if dataset.folder is None:
        return 0
    paths = list(Path(dataset.folder).rglob("*"))
    pictures = {path.with_suffix("") for path in paths if path.suffix.lower() in SUFFIXES}
    return sum(path.suffix == ".txt" and path.with_suffix("") not in pictures for path in paths)


def _profile(device: torch.device | None) -> DeviceProfile | None:
    if device is None or device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    width = 2 if torch.cuda.is_bf16_supported() else 4
    return DeviceProfile(found.name, 1.0, found.total_memory // 2**20, width)


def _free_mb(folder: Path | None) -> int | None:
    """Return the space on the disk of a folder that may not exist yet."""
    if folder is None:
        return None
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    return shutil.disk_usage(there).free // 2**20
