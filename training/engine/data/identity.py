"""Digests of model folders, remembered by path, size and time of change so that large files are read once.

They are remembered in a file, and by the server of this process for whoever has another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from training.engine import resident
from training.engine.data.manifest import file_sha256

WEIGHTS = {".safetensors", ".json", ".txt", ".model"}


class ModelIdentity:
    """Compute content digests of parts of a base model."""

    def __init__(self, memory: Path) -> None:
        """Remember digests in the JSON file ``memory``."""
        self._memory = memory
        self._seen: dict[str, str] = {}
        try:
            self._known: dict[str, str] = json.loads(memory.read_text())
        except (OSError, ValueError):
            self._known = {}

    def sha256(self, folders: Iterable[Path]) -> str:
        """Return one digest over the weight, config and vocabulary files below some folders."""
        digest = hashlib.sha256()
        for folder in folders:
            for path in sorted(p for p in folder.rglob("*") if p.suffix in WEIGHTS and p.is_file()):
                digest.update(f"{path.relative_to(folder)}\0{self._file(path)}\n".encode())
        self._remember()
        return digest.hexdigest()

    def _file(self, path: Path) -> str:
        stat = path.stat()
        mark = f"{path.absolute()}:{stat.st_size}:{stat.st_mtime_ns}"
        if mark not in self._known:
            self._known[mark] = resident.digests.get(mark) or file_sha256(path)
        self._seen[mark] = self._known[mark]
        return self._known[mark]

    def _remember(self) -> None:
        aside = self._memory.with_name(f".{self._memory.name}.{secrets.token_hex(8)}")
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(self._known))
        os.replace(aside, self._memory)
        resident.remember(self._seen)
