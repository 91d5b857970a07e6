"""What a machine keeps of the teams' pictures and of their encoded forms, so that the next run starts sooner.

Everything goes some days after it was written, used or not: so a picture that somebody deleted is gone from every
worker by then, at the price of fetching and encoding the others again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from django.conf import settings

from accounts.models import Team
from core import storage
from projects.models import Blob

log = logging.getLogger(__name__)

# Another worker of this machine may be about to open what it has just written.
_TOO_YOUNG = 3600.0


class DamagedBlob(Exception):
    """Say that storage gave other bytes than were put in."""


def cached_picture(team: Team, blob: Blob) -> Path:
    """Return the blob's file in the cache that runs of one team share, fetching it if needed."""
    path = Path(settings.ENGINE_CACHE_DIR) / team.uid / "pictures" / blob.sha256[:2] / blob.sha256
    if path.exists() and path.stat().st_size == blob.size:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if storage.copy_to(storage.blob_key(team.uid, blob.sha256), aside) != blob.sha256:
            raise DamagedBlob(f"picture {blob.uid} is not what was stored")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def encoded_folder(team: Team) -> Path:
    """Return where the engine keeps a team's encoded pictures and captions."""
    return Path(settings.ENGINE_CACHE_DIR) / team.uid / "encoded"


def sweep_cache() -> int:
    """Remove what is older than LF_CACHE_DAYS, then the oldest until LF_CACHE_MAX_GB holds; return the bytes freed."""
    now = time.time()
    oldest = max(settings.CACHE_DAYS * 86_400.0, _TOO_YOUNG)
    files = sorted(_files(Path(settings.ENGINE_CACHE_DIR)))
    left = sum(size for _, size, _ in files)
    freed = 0
    for written, size, path in files:
        age = now - written
        if age < oldest and (age < _TOO_YOUNG or left <= settings.CACHE_MAX_GB * 1e9):
            continue
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            path.unlink()
        left, freed = left - size, freed + size
        with contextlib.suppress(OSError):  # other files are in it
            path.parent.rmdir()
    if freed:
        log.info("%.1f MB of cached pictures and encodings were removed", freed / 1e6)
    return freed


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """List (time of writing, bytes, path) of every file below `folder`; one that goes meanwhile is left out."""
    found = []
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
    return found
