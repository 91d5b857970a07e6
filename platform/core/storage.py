"""Blobs: bytes addressed by their content, in a local folder or S3 (the only module that knows storage).

Keys are made here from ids and hashes; no part of a key ever comes from a person.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import IO

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}\Z")
_READ_BYTES = 1024 * 1024


def blob_key(team_uid: str, sha256: str) -> str:
    """Return the storage key of a team's blob."""
    if not _SHA256.match(sha256):
        raise ValueError(f"not a sha256: {sha256!r}")
    return f"teams/{_part(team_uid)}/blobs/{sha256[:2]}/{sha256}"


def thumbnail_key(team_uid: str, sha256: str) -> str:
    """Return the storage key of a picture's thumbnail."""
    return f"{blob_key(team_uid, sha256)}.thumb.webp"


def upload_part_key(team_uid: str, upload_uid: str, number: int) -> str:
    """Return the storage key of one received part of an upload."""
    return f"teams/{_part(team_uid)}/uploads/{_part(upload_uid)}/{number:06d}"


def run_key(team_uid: str, job_uid: str, fence: int, *names: str) -> str:
    """Return the storage key of a file that an attempt keeps for resuming."""
    return "/".join([f"teams/{_part(team_uid)}/runs/{_part(job_uid)}/{fence}", *map(_part, names)])


def export_key(team_uid: str, export_uid: str) -> str:
    """Return the storage key of a team's export."""
    return f"teams/{_part(team_uid)}/exports/{_part(export_uid)}.zip"


def delete_team(team_uid: str) -> None:
    """Remove everything that is stored for a team; nothing happens if nothing is."""
    _delete_below(f"teams/{_part(team_uid)}")


def _delete_below(folder: str) -> None:
    try:
        folders, files = default_storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in folders:
        _delete_below(f"{folder}/{name}")
    for name in files:
        default_storage.delete(f"{folder}/{name}")
    # A local folder stays behind when it is empty; in S3 there are none.
    default_storage.delete(folder)


def _part(value: str) -> str:
    if not _PART.match(value):
        raise ValueError(f"not a safe part of a key: {value!r}")
    return value


def save_bytes(key: str, content: bytes) -> None:
    """Write `content` under `key`, replacing what is there."""
    default_storage.save(key, ContentFile(content))


def save_file(key: str, path: Path) -> None:
    """Write the file at `path` under `key`, replacing what is there."""
    with path.open("rb") as source:
        default_storage.save(key, File(source))


def open_key(key: str) -> IO[bytes]:
    """Open what is stored under `key` for reading; FileNotFoundError if nothing is."""
    handle: IO[bytes] = default_storage.open(key, "rb")
    return handle


def read_bytes(key: str) -> bytes:
    """Return what is stored under `key`."""
    with open_key(key) as source:
        return source.read()


def copy_to(key: str, path: Path) -> str:
    """Copy what is stored under `key` to `path` and return its sha256."""
    digest = hashlib.sha256()
    with open_key(key) as source, path.open("wb") as target:
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def delete(key: str) -> None:
    """Remove what is stored under `key`; nothing happens if it is gone."""
    default_storage.delete(key)


def signed_url(key: str, *, content_type: str, disposition: str, seconds: int = 300) -> str | None:
    """Return an address that gives what is under `key` to anyone for `seconds`; None on a local folder."""
    if not getattr(default_storage, "bucket_name", None):
        return None
    address: str = default_storage.url(  # type: ignore[call-arg]
        key,
        parameters={"ResponseContentType": content_type, "ResponseContentDisposition": disposition},
        expire=seconds,
    )
    return address
