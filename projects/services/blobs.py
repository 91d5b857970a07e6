"""Store bytes by their content, once per team."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from accounts.models import Team
from core import storage
from projects.models import Blob

_READ_BYTES = 1024 * 1024


def store_blob(
    *,
    team: Team,
    content: bytes | None = None,
    path: Path | None = None,
    content_type: str,
    width: int | None = None,
    height: int | None = None,
    thumbnail: bytes | None = None,
) -> Blob:
    """Store `content` or the file at `path` and return its row; the same content again returns the same row.

    Safe when two do it at once: storage is addressed by content, and the row is unique per team and content.
    The bytes are in storage before the row exists, so a row never points at nothing.
    """
    if (content is None) == (path is None):
        raise ValueError("give either content or path")
    digest, size = (
        (hashlib.sha256(content).hexdigest(), len(content)) if content is not None else _digest_of(path)
    )
    rows = Blob.objects.for_team(team).filter(sha256=digest)
    found: Blob | None = rows.first()
    if found is not None:
        return found
    key = storage.blob_key(team.uid, digest)
    with transaction.atomic():
        _lock_content(team, digest)
        if content is not None:
            storage.save_bytes(key, content)
        elif path is not None:
            storage.save_file(key, path)
        if thumbnail is not None:
            storage.save_bytes(storage.thumbnail_key(team.uid, digest), thumbnail)
        new = Blob(team=team, sha256=digest, size=size, content_type=content_type, width=width, height=height)
        Blob.objects.bulk_create([new], ignore_conflicts=True)
        blob: Blob = rows.get()
    return blob


def delete_unused(blob: Blob) -> bool:
    """Delete a blob with its bytes unless something uses it; return whether it is gone.

    Whoever stores the same content meanwhile waits for the lock and stores it anew. Who found the row before it went
    cannot link to it any more (the database refuses), and does its work again.
    """
    try:
        with transaction.atomic():
            _lock_content(blob.team, blob.sha256)
            with connection.cursor() as cursor:
                # A link from any table must show before the bytes go, not at the commit.
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            Blob.objects.for_team(blob.team).filter(pk=blob.pk).delete()
            storage.delete(storage.thumbnail_key(blob.team.uid, blob.sha256))
            storage.delete(storage.blob_key(blob.team.uid, blob.sha256))
    except (ProtectedError, IntegrityError):
        return False
    return True


def _lock_content(team: Team, sha256: str) -> None:
    """Let one transaction at a time store or delete this content."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{team.uid}/{sha256}"])


def _digest_of(path: Path | None) -> tuple[str, int]:
    assert path is not None
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source:
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
