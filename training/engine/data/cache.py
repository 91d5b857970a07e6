"""A cache of encoded pictures and captions, keyed by content and shared between runs.

A namespace is a folder of safetensors shards; a shard is written aside, synced and renamed, so that a reader never
sees half of one. A damaged shard is thrown away and its entries are computed again; one that only could not be read
this time (too many open files, a disk in trouble) belongs to other runs too and stays.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.engine.progress import Progress, untold

Row = dict[str, Tensor]
SHARD = 256


class TensorCache:
    """Map a content key to a few named tensors."""

    def __init__(self, folder: Path) -> None:
        """Open a namespace; read the headers of what is already there."""
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._where: dict[str, tuple[Path, list[str]]] = {}
        self._open: dict[Path, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._index(path)

    def _index(self, path: Path) -> None:
        try:
            handle: Any = safe_open(path, framework="pt")
            names = list(handle.keys())
        except SafetensorError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        self._open[path] = handle
        found: dict[str, list[str]] = {}
        for name in names:
            key, _, tensor = name.partition("/")
            found.setdefault(key, []).append(tensor)
        for key, tensors in found.items():
            self._where.setdefault(key, (path, tensors))

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def get(self, key: str) -> Row:
        """Return the tensors of a key that is known to be here."""
        path, names = self._where[key]
        handle = self._open[path]
        return {name: handle.get_tensor(f"{key}/{name}") for name in names}

    def fill(
        self,
        keys: Iterable[str],
        compute: Callable[[Sequence[str]], Sequence[Row]],
        *,
        batch: int = 8,
        progress: Progress = untold,
    ) -> int:
        """Compute what is missing, ``batch`` keys at a time, and return how many that were.

        ``compute`` gets keys in the order given; ``progress`` is called with (done, total) after each batch.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._where]
        pending: dict[str, Row] = {}
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            for key, row in zip(part, compute(part), strict=True):
                pending[key] = row
            if len(pending) >= SHARD or start + batch >= len(missing):
                self._write(pending)
                pending = {}
            progress(min(start + batch, len(missing)), len(missing))
        return len(missing)

    def _write(self, rows: dict[str, Row]) -> None:
        tensors = {
            f"{key}/{name}": tensor.detach().to("cpu", torch.float32).contiguous()
            for key, row in rows.items() for name, tensor in row.items()
        }  # fmt: skip
        name = hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:32]
        path = self._folder / f"{name}.safetensors"
        aside = self._folder / f".{name}.{os.getpid()}.tmp"
        try:
            # Tensors that share storage (rows of one batch) must be copied to be written apart.
            save_file({k: t.clone() for k, t in tensors.items()}, aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        self._index(path)


def content_key(*parts: object) -> str:
    """Return a key from everything that decides the encoded form."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:40]
