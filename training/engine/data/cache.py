"""A cache of encoded pictures and captions, keyed by content and shared between runs.

A namespace is a folder of safetensors shards; a shard is written aside, synced and renamed, so that a reader never
sees half of one. A damaged shard is thrown away and its entries are computed again; one that only could not be read
this time (too many open files, a disk in trouble) belongs to other runs too and stays.

Several runs may fill a namespace at once: each looks after every shard for what the others have done. What two compute
at the same time is the same, and either copy will do. Numbers are kept in the format in which they were computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.engine.progress import Progress, untold

Row = dict[str, Tensor]
SHARD, SHARD_BYTES = 256, 256 * 2**20
"""A shard has no more rows than this, and is written once it has so many bytes."""


class TensorCache:
    """Map a content key to a few named tensors."""

    def __init__(self, folder: Path) -> None:
        """Open a namespace; read the headers of what is already there."""
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._where: dict[str, tuple[Path, list[str]]] = {}
        self._open: dict[Path, Any] = {}
        self._look()

    def _look(self) -> None:
        """Index the shards that have come since the last look."""
        for path in sorted(self._folder.glob("*.safetensors")):
            if path not in self._open:
                self._index(path)

    def _index(self, path: Path) -> None:
        try:
            found_as = path.stat()
            handle: Any = safe_open(path, framework="pt")
            names = list(handle.keys())
        except SafetensorError:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(found_as, path.stat()):  # not a whole one that came meanwhile
                    path.unlink()
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
        """Compute what is missing, ``batch`` keys at a time, and return how many were computed here.

        ``compute`` gets keys in the order given; ``progress`` is called with (done, total) after each batch.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._where]
        pending: dict[str, Row] = {}
        computed = 0
        for start in range(0, len(missing), batch):
            if not pending:
                self._look()
            part = [key for key in missing[start : start + batch] if key not in self._where]
            if part:
                pending.update(zip(part, _on_cpu(compute(part)), strict=True))
                computed += len(part)
            if len(pending) >= SHARD or _bytes(pending) >= SHARD_BYTES or start + batch >= len(missing):
                self._write(pending)
                pending = {}
            progress(min(start + batch, len(missing)), len(missing))
        return computed

    def _write(self, rows: dict[str, Row]) -> None:
        if not rows:
            return
        tensors = {f"{key}/{name}": tensor for key, row in rows.items() for name, tensor in row.items()}
        name = hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:32]
        path = self._folder / f"{name}.safetensors"
        # Process numbers are no names: two containers that share the folder may have the same.
        aside = self._folder / f".{name}.{secrets.token_hex(8)}.tmp"
        try:
            save_file(tensors, aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        self._index(path)


def _on_cpu(rows: Sequence[Row]) -> list[Row]:
    """Copy rows to the CPU, each tensor by itself: those of one batch share memory, which cannot be written apart."""
    return [
        {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in row.items()}
        for row in rows
    ]


def _bytes(rows: dict[str, Row]) -> int:
    return sum(tensor.nbytes for row in rows.values() for tensor in row.values())


def content_key(*parts: object) -> str:
    """Return a key from everything that decides the encoded form."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:40]
