"""The list of pictures and captions of a run, from a manifest or from a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.engine.data_sections import DatasetSpec
from training.engine.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
_REPEATS = re.compile(r"([1-9]\d{0,2})_")


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """Be one picture with its caption; ``sha256`` is the digest of the file."""

    path: Path
    sha256: str
    caption: str
    repeats: int = 1
    held_out: bool = False


def read_items(dataset: DatasetSpec) -> list[Item]:
    """Read the pictures of a run; raise DataError when there are none or an entry is wrong."""
    if dataset.manifest is not None:
        items = _from_manifest(Path(dataset.manifest))
    else:
        items = _from_folder(Path(dataset.folder or "."), folder_repeats=dataset.folder_repeats)
    if not items:
        raise DataError("no_images", "there are no pictures to train on", hint="Add pictures to the set.")
    if dataset.repeats != 1:
        items = [dataclasses.replace(item, repeats=item.repeats * dataset.repeats) for item in items]
    return items


def _from_manifest(path: Path) -> list[Item]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        entries = data["items"]
    except FileNotFoundError as error:
        raise DataError("manifest_missing", "the manifest of the picture set was not found") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("manifest_broken", 'the manifest is not JSON of the form {"items": [...]}') from error
    return [_entry(entry, number, path.parent) for number, entry in enumerate(entries)]


def _entry(entry: Any, number: int, folder: Path) -> Item:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise DataError("manifest_broken", f"entry {number} of the manifest has no path")
    path = folder / entry["path"]
    repeats = entry.get("repeats", 1)
    if not isinstance(repeats, int) or repeats < 1:
        raise DataError("manifest_broken", f"entry {number} of the manifest: repeats must be 1 or more")
    if not path.is_file():
        raise DataError("image_missing", f"picture {entry['path']!r} of the manifest was not found")
    return Item(
        path, entry.get("sha256") or file_sha256(path), entry.get("caption") or "", repeats,
        bool(entry.get("held_out", False)),
    )  # fmt: skip


def _from_folder(folder: Path, *, folder_repeats: bool) -> list[Item]:
    if not folder.is_dir():
        raise DataError("folder_missing", "the folder of pictures was not found")
    items = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            repeats = _folder_repeats(path, folder) if folder_repeats else 1
            items.append(Item(path, file_sha256(path), _caption(path.with_suffix(".txt")), repeats))
    return items


def _folder_repeats(path: Path, root: Path) -> int:
    """Return the number that the nearest folder's name begins with, as in ``10_plates``; 1 without any."""
    for folder in path.absolute().parents:
        if found := _REPEATS.match(folder.name):
            return int(found[1])
        if folder == root.absolute():
            break
    return 1


def _caption(path: Path) -> str:
    """Read a caption file, with or without a byte order mark; no file is no caption."""
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            "caption_not_utf8", f"caption {path.name!r} is not UTF-8 text", hint="Save the file as UTF-8.",
        ) from error  # fmt: skip


def file_sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dataset_sha256(items: Sequence[Item]) -> str:
    """Return a digest of what is trained on: contents, captions, repeats and split, in any order."""
    lines = sorted(f"{i.sha256}\0{i.caption}\0{i.repeats}\0{i.held_out}" for i in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
