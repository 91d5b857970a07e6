"""Write a LoRA file that was made of others, and prove that it holds what was meant."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from training.engine import ENGINE_VERSION
from training.engine.errors import ConfigurationError, DataError
from training.engine.export.factors import VerificationError, read_factors, tensors_of
from training.engine.export.table import Layout
from training.engine.export.verify import TOLERANCE
from training.engine.export.weights_file import DTYPES, write
from training.engine.lora_files import svd
from training.engine.lora_files.reading import LoraFile
from training.engine.methods.changes import Change

OWN = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", "lora_adapter_metadata")
"""What is true of one file alone: hashes of its tensors, and peft's own list of ranks and names."""
METHOD = ("ss_network_args", "lora_foundry.method")
"""What was true of the method by which factors were trained, which others are not of."""
ARCHITECTURE = (
    "ss_v2", "ss_base_model_version", "ss_sd_model_hash", "ss_new_sd_model_hash", "modelspec.sai_model_spec",
    "modelspec.architecture", "modelspec.implementation", "modelspec.prediction_type", "modelspec.resolution",
    "modelspec.license", "lora_foundry.base_sha256",
)  # fmt: skip
"""What is true of a merged file if all its sources agree on it."""


def require_free(path: Path, force: bool) -> None:
    """Raise ConfigurationError, before any work, if a file could not be written there."""
    if path.suffix != ".safetensors":
        raise ConfigurationError(
            "output_name", f"{path.name!r} is not a name for a LoRA file", hint="End it with .safetensors."
        )
    if path.is_dir():
        raise ConfigurationError("output_exists", f"{path} is a folder", hint="Choose another name.")
    if path.exists() and not force:
        raise ConfigurationError(
            "output_exists", f"{path} is there already", hint="Choose another name, or add --force."
        )
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigurationError(
            "output_folder", f"nothing can be written to {nearest}", hint="Choose another folder."
        )


def save(
    path: Path, layout: Layout, changes: Mapping[str, Change], dtype: torch.dtype, metadata: Mapping[str, str]
) -> str:
    """Write the changes by stem, read the file again and compare each, then give it its name; return its sha256.

    Raise DataError for a file that would hold no numbers or change nothing, VerificationError where rounding does not
    explain a difference; what was there before is then untouched.
    """
    content = tensors_of(layout, changes, dtype, {})
    odd = next((key for key, tensor in content.items() if not bool(torch.isfinite(tensor).all())), None)
    if odd is not None:
        raise DataError(
            "lora_not_finite", f"{path.name}: {odd!r} would hold values that are not finite",
            hint="Use a smaller strength, e.g. FILE:0.5, or --dtype fp32.",
        )  # fmt: skip
    if all(change.is_empty for change in changes.values()):
        raise DataError("lora_empty", f"{path.name} would change nothing: every product is zero")
    aside = path.with_name(f".{path.stem}.{os.getpid()}.new.safetensors")
    try:
        digest = write(aside, content, metadata)
        _compare(aside, changes, dtype)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return digest


def _compare(path: Path, changes: Mapping[str, Change], dtype: torch.dtype) -> None:
    written = read_factors(path)
    if written.keys() != changes.keys():
        raise VerificationError(
            "export_key", f"{path.name}: {sorted(written.keys() ^ changes.keys())[0]!r} is odd"
        )
    for stem, change in changes.items():
        error, size = svd.distance(written[stem], change), svd.norm_of(change)
        # Below fp16's smallest steps a factor vanishes, as in ``verify_file``.
        if error > TOLERANCE[dtype] * size + 1e-7 * math.sqrt(math.prod(change.size)):
            raise VerificationError(
                "export_differs", f"{path.name}: {stem!r} is off by {error / max(size, 1e-12):.1%}",
                hint="Write it with --dtype fp32.",
            )  # fmt: skip


def dtype_of(name: str | None, file: LoraFile) -> torch.dtype:
    """Return a number format by its name, or that of a file."""
    return DTYPES[name] if name else file.dtype if file.dtype in DTYPES.values() else torch.float32


def inherited(file: LoraFile, operation: str, changes: Mapping[str, Change] | None = None) -> dict[str, str]:
    """Return the metadata of a file made of one other: what that says, and what was done to it.

    ``changes`` are those of the new file where they are other ones: plain LoRA, whatever the method was.
    """
    dropped = OWN if changes is None else (*OWN, *METHOD)
    kept = {key: value for key, value in file.metadata.items() if key not in dropped}
    return {**kept, **(network(changes) if changes else {}), **_history([file], operation, [])}


def combined(sources: Sequence[LoraFile], operation: str, strengths: Sequence[float]) -> dict[str, str]:
    """Return the metadata of a file made of several: what they agree on, and what each was."""
    agreed = {
        key: sources[0].metadata[key] for key in ARCHITECTURE
        if key in sources[0].metadata and len({each.metadata.get(key) for each in sources}) == 1
    }  # fmt: skip
    triggers = dict.fromkeys(each.metadata.get("modelspec.trigger_phrase", "") for each in sources)
    phrase = ", ".join(word for word in triggers if word)
    return {
        **agreed,
        **({"modelspec.trigger_phrase": phrase} if phrase else {}),
        **_history(sources, operation, strengths),
    }


def _history(files: Sequence[LoraFile], operation: str, strengths: Sequence[float]) -> dict[str, str]:
    sources = [
        {
            "name": file.metadata.get("modelspec.title")
            or file.metadata.get("ss_output_name")
            or file.path.stem,
            "sshs_model_hash": file.metadata.get("sshs_model_hash"),
            **({"strength": strengths[number]} if strengths else {}),
            **({"made": json.loads(made)} if (made := _made(file)) else {}),
        }
        for number, file in enumerate(files)
    ]
    told = {"operation": operation, "engine_version": ENGINE_VERSION, "sources": sources}
    return {"lora_foundry.made": json.dumps(told, ensure_ascii=False)}


def _made(file: LoraFile) -> str | None:
    made = file.metadata.get("lora_foundry.made")
    try:
        json.loads(made or "")
    except ValueError:
        return None
    return made


def network(changes: Mapping[str, Change]) -> dict[str, str]:
    """Return the entries that say of what rank a LoRA is, as kohya's tools name them."""
    ranks = {change.rank for change in changes.values()}
    rank = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
    return {"ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank}
