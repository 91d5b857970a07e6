"""Offer base models for training: where they lie, whether they are whole, and which weights they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from core.errors import DomainError
from training.models import FoundationModel

# The same files that the engine's identity of a model counts, so that both give the same digest.
_COUNTED = {".safetensors", ".json", ".txt", ".model"}
# Parts of a pipeline that no training needs.
_NOT_NEEDED = {"safety_checker", "feature_extractor", "image_encoder"}


def base_model_path(path: str) -> Path:
    """Return where a base model lies on this machine; its path is relative to the folder of base models."""
    return Path(settings.BASE_MODELS_DIR) / path


def read_weights(path: str) -> str:
    """Check that the base model at `path` can be trained on, and return the digest of its files.

    Raise DomainError that says what is missing.
    """
    folder = base_model_path(path)
    if not folder.is_dir():
        raise DomainError(
            "base_model_missing",
            _("There is no folder %(folder)s on this machine.") % {"folder": folder},
            pointer="path",
        )
    for part in _parts(folder):
        if not (folder / part).is_dir():
            raise DomainError(
                "base_model_incomplete",
                _("%(folder)s has no folder “%(part)s”, which its model_index.json names.")
                % {"folder": folder, "part": part},
                pointer="path",
            )
        if (folder / part / "config.json").exists() and not any((folder / part).glob("*.safetensors")):
            raise DomainError(
                "base_model_incomplete",
                _("%(folder)s holds no .safetensors file. Pickled weights (.bin, .ckpt) are never loaded.")
                % {"folder": folder / part},
                pointer="path",
            )
    return folder_sha256(folder)


def _parts(folder: Path) -> list[str]:
    """Return the folders that a pipeline's index names; raise DomainError if there is no such index."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        return [
            part
            for part, origin in index.items()
            if isinstance(origin, list) and origin and origin[0] and part not in _NOT_NEEDED
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise DomainError(
            "base_model_layout",
            _(
                "%(folder)s has no readable model_index.json. Give a folder as diffusers' save_pretrained writes it: "
                "single weight files and names on the Hugging Face hub do not work."
            )
            % {"folder": folder},
            pointer="path",
        ) from error


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
