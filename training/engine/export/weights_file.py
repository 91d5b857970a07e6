"""LoRA files as safetensors: names, number formats, hashes and metadata."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from training.engine.spec import RunSpec

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def write(path: Path, content: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a file aside, sync and rename it; return its sha256.

    ``sshs_model_hash`` and ``modelspec.hash_sha256`` are digests of the tensor region alone, so that the same weights
    have the same hash whatever is said about them.
    """
    region = _tensor_region(save(dict(content)))
    digest = hashlib.sha256(region).hexdigest()
    hashes = {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}
    data = save(dict(content), metadata={**metadata, **hashes})
    if _tensor_region(data) != region:
        raise ValueError("metadata changed the tensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()


def _tensor_region(data: bytes) -> bytes:
    """Return what follows the JSON header of a safetensors file (8 bytes of length, then the header)."""
    (length,) = struct.unpack("<Q", data[:8])
    return data[8 + length :]


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata: dict[str, str] = json.loads(file.read(length)).get("__metadata__", {})
    return metadata


def file_stem(name: str) -> str:
    """Turn a LoRA's name into a file name: letters and digits of any script, ``-`` and ``_``; never empty."""
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"[^\w-]+", "-", text).strip("-_")
    while len(text.encode()) > 120:
        text = text[:-1]
    return text or "lora"


def run_folder(spec: RunSpec) -> Path:
    """Return where a run goes that is given no other folder."""
    return Path(spec.run_dir) if spec.run_dir else Path("runs") / file_stem(spec.name)
