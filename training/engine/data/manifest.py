"""The list of pictures and captions of a run, from a manifest or from a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.engine.data.videos import VIDEOS
from training.engine.data_sections import DatasetSpec, RegularisationSpec
from training.engine.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", *VIDEOS}
MASK_ENDINGS = ("-mask", "-masklabel")
_REPEATS = re.compile(r"([1-9]\d{0,2})_")


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """Be one picture with its caption; ``sha256`` and ``mask_sha256`` are digests of the files.

    ``alternatives`` are further captions, of which one or the caption is drawn each time. Without ``flip`` it is never
    mirrored: it shows letters, or a face that is not even.
    """

    path: Path
    sha256: str
    caption: str
    repeats: int = 1
    held_out: bool = False
    mask: Path | None = None
    mask_sha256: str = ""
    alternatives: tuple[str, ...] = ()
    weight: float = 1.0
    flip: bool = True

    @property
    def captions(self) -> tuple[str, ...]:
        """Return the caption and the alternatives."""
        return (self.caption, *self.alternatives)


def read_items(dataset: DatasetSpec) -> list[Item]:
    """Read the pictures of a run; raise DataError when there are none or an entry is wrong."""
    items = _read(dataset.manifest, dataset.folder or ".", dataset)
    if not items:
        raise DataError("no_images", "there are no pictures to train on", hint="Add pictures to the set.")
    if dataset.repeats != 1:
        items = [dataclasses.replace(item, repeats=item.repeats * dataset.repeats) for item in items]
    return items


def read_regularisation(regularisation: RegularisationSpec, dataset: DatasetSpec) -> list[Item]:
    """Read the pictures that are mixed in, none if the recipe names none; a folder is read as ``dataset`` says.

    Raise DataError when there are none after all or an entry is wrong.
    """
    if not regularisation.is_on:
        return []
    items = _read(regularisation.manifest, regularisation.folder or ".", dataset)
    if not items:
        raise DataError(
            "no_regularisation", "there are no regularisation pictures",
            hint="Add some, or train without regularisation.",
        )  # fmt: skip
    return items


def read_held_out(dataset: DatasetSpec) -> list[Item]:
    """Read the held-out set, none if the recipe names none; raise DataError when it is empty or an entry is wrong."""
    if dataset.held_out_manifest is None and dataset.held_out_folder is None:
        return []
    items = _read(dataset.held_out_manifest, dataset.held_out_folder or ".", dataset)
    if not items:
        raise DataError(
            "no_held_out", "there are no pictures in the held-out set", hint="Add some, or leave it out."
        )
    return [dataclasses.replace(item, held_out=True) for item in items]


def _read(manifest: str | None, folder: str, dataset: DatasetSpec) -> list[Item]:
    return _from_manifest(Path(manifest)) if manifest is not None else _from_folder(Path(folder), dataset)


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
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0.0 <= weight <= 100.0:
        raise DataError(
            "manifest_broken", f"entry {number} of the manifest: weight must be between 0 and 100"
        )
    flip = entry.get("flip", True)
    if not isinstance(flip, bool):
        raise DataError("manifest_broken", f"entry {number} of the manifest: flip must be true or false")
    if not path.is_file():
        raise DataError("image_missing", f"picture {entry['path']!r} of the manifest was not found")
    captions = entry.get("captions", [entry.get("caption") or ""])
    if "captions" in entry and not _is_captions(entry):
        raise DataError(
            "manifest_broken",
            f"entry {number} of the manifest: captions must be a list of texts, without a caption",
        )
    mask = folder / str(entry["mask"]) if entry.get("mask") else None
    if mask is not None and not mask.is_file():
        raise DataError("mask_missing", f"mask {entry['mask']!r} of the manifest was not found")
    return Item(
        path, entry.get("sha256") or file_sha256(path), captions[0], repeats,
        bool(entry.get("held_out", False)), mask,
        (entry.get("mask_sha256") or file_sha256(mask)) if mask is not None else "", tuple(captions[1:]),
        float(weight), flip,
    )  # fmt: skip


def _is_captions(entry: dict[str, Any]) -> bool:
    captions = entry["captions"]
    is_list = (
        isinstance(captions, list) and bool(captions) and all(isinstance(each, str) for each in captions)
    )
    return is_list and not entry.get("caption")


def _from_folder(folder: Path, dataset: DatasetSpec) -> list[Item]:
    if not folder.is_dir():
        raise DataError("folder_missing", "the folder of pictures was not found")
    files = [
        path for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not _is_hidden(path.relative_to(folder)) and path.is_file()
    ]  # fmt: skip
    masks = _masks(files)
    not_pictures = {mask for found in masks.values() for mask in found}
    items = []
    for path in files:
        if path in not_pictures:
            continue
        repeats = _folder_repeats(path, folder) if dataset.folder_repeats else 1
        caption, *others = _captions(path.with_suffix(".txt"), per_line=dataset.caption_per_line)
        mask = next(iter(masks.get(path, [])), None)
        items.append(Item(
            path, file_sha256(path), caption, repeats, mask=mask,
            mask_sha256=file_sha256(mask) if mask is not None else "", alternatives=tuple(others),
        ))  # fmt: skip
    return items


def _is_hidden(path: Path) -> bool:
    """Tell whether a file is one that systems and programs keep beside pictures, such as thumbnails."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _masks(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Find the masks beside each picture: ``a-mask.png`` or ``a-masklabel.png`` beside ``a.jpg``."""
    by_name = {path.with_suffix(""): path for path in reversed(files)}
    return {
        path: [
            by_name[name]
            for ending in MASK_ENDINGS
            if (name := path.with_name(path.stem + ending)) in by_name
        ]
        for path in files
    }


def _folder_repeats(path: Path, root: Path) -> int:
    """Return the number that the nearest folder's name begins with, as in ``10_plates``; 1 without any."""
    for folder in path.absolute().parents:
        if found := _REPEATS.match(folder.name):
            return int(found[1])
        if folder == root.absolute():
            break
    return 1


def _captions(path: Path, *, per_line: bool) -> list[str]:
    """Read a caption file, with or without a byte order mark; no file is one empty caption."""
    if not path.is_file():
        return [""]
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        return [line.strip() for line in text.splitlines() if line.strip()] or [""] if per_line else [text]
    except UnicodeDecodeError as error:
        raise DataError(
            "caption_not_utf8", f"caption {path.name!r} is not UTF-8 text", hint="Save the file as UTF-8.",
        ) from error  # fmt: skip


def file_sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dataset_sha256(items: Sequence[Item], regularisation: Sequence[Item] = ()) -> str:
    """Return a digest of what is trained on: contents, captions, repeats, split and the rest, in any order."""
    lines = sorted(_line(item) for item in items)
    lines += sorted("regularisation\0" + _line(item) for item in regularisation)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _line(item: Item) -> str:
    """Say all of a picture in a line; what it does not have adds nothing, so that digests of the past still hold."""
    line = f"{item.sha256}\0{item.caption}\0{item.repeats}\0{item.held_out}"
    if item.mask is not None:
        line += f"\0mask {item.mask_sha256}"
    if item.alternatives:
        line += f"\0captions {json.dumps(item.alternatives)}"
    if item.weight != 1.0:
        line += f"\0weight {item.weight}"
    if not item.flip:
        line += "\0no flip"
    return line
