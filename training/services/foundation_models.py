"""Offer base models for training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from training.models import FoundationModel

# The same files that the engine's identity of a model counts, so that both give the same digest.
_COUNTED = {".safetensors", ".json", ".txt", ".model"}


def folder_sha256(folder: Path) -> str:
    """Return one digest over the weight, config and vocabulary files of a model folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in _COUNTED and p.is_file()):
        with path.open("rb") as source:
            content = hashlib.file_digest(source, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return digest.hexdigest()


def offer_foundation_model(
    *,
    key: str,
    folder: Path,
    path: str,
    name: str,
    family: str,
    licence: str,
    description: str,
    resolution: int,
    prompts: Sequence[str] = (),
    is_demo: bool = False,
) -> FoundationModel:
    """Make or refresh the row of a base model that lies in `folder`; `path` is how workers find it."""
    model, _is_new = FoundationModel.objects.update_or_create(
        key=key,
        defaults={
            "name": name,
            "family": family,
            "path": path,
            "sha256": folder_sha256(folder),
            "licence": licence,
            "description": description,
            "resolution": resolution,
            "prompts": list(prompts),
            "is_demo": is_demo,
        },
    )
    return model
