"""Base models on a worker's own disk, where the installation's lie on a slow share.

A model is copied when a job first needs it, and the one used longest ago goes when there is no room
(`LF_BASE_CACHE_GB`). A copy is found by the digest of the model's files, so a model that was replaced is copied anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Protocol

from django.conf import settings

from training.models import FoundationModel
from training.services.foundation_models import base_model_path

log = logging.getLogger(__name__)

# Another worker of this machine may be about to load what it has just found here.
_IN_USE_SECONDS = 3600.0


class Progress(Protocol):
    """Be told (done, total) of what is fetched for a job; what it raises ends the fetching."""

    def __call__(self, done: int, total: int, phase: str = "fetch_data") -> None:
        """Take note of it."""


def local_base(model: FoundationModel, progress: Progress) -> Path:
    """Return the folder to load a base model from: a copy on this machine's disk, or where it lies.

    `progress` is told (done, total) MB while it is copied; what it raises ends the copying and is passed on. A disk
    that fails is no reason to stop: the model is read where it lies then.
    """
    source = base_model_path(model.path)
    if not settings.BASE_CACHE_GB or not source.is_dir():
        return source
    target = Path(settings.BASE_CACHE_DIR) / model.sha256
    try:
        if not target.is_dir() and not _copy(source, target, progress):
            return source
        os.utime(target)
    except OSError as error:
        log.warning("%s is read where it lies: %s", model, error)
        return source
    return target


def _copy(source: Path, target: Path, progress: Progress) -> bool:
    """Copy a model, whole or not at all; tell whether there was room for it."""
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if not _make_room(target.parent, size):
        return False
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    done = 0
    try:
        for path in files:
            progress(done // 2**20, size // 2**20, "fetch_base")
            copy = aside / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            done += copy.stat().st_size
        with contextlib.suppress(OSError):  # another worker was faster
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target.is_dir()


def _make_room(folder: Path, size: int) -> bool:
    """Delete the models used longest ago until `size` bytes more fit the limit; tell whether they do."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = sorted(_models(folder))
    room = settings.BASE_CACHE_GB * 1e9 - sum(each for _used, each, _path in kept) - size
    for used, each, path in kept:
        if room >= 0 or time.time() - used < _IN_USE_SECONDS:
            break
        shutil.rmtree(path, ignore_errors=True)
        room += each
    return room >= 0


def _models(folder: Path) -> list[tuple[float, int, Path]]:
    """List (time of last use, bytes, path) of the copies; half-made ones of killed workers are cleared away."""
    found = []
    for path in folder.iterdir():
        used = path.stat().st_mtime
        if path.name.startswith("."):
            if time.time() - used > _IN_USE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
            continue
        found.append((used, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()), path))
    return found
