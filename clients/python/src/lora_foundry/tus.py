"""Uploads in pieces (tus 1.0): what the server has is never sent again."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from lora_foundry.errors import Conflict, ConnectionFailed, InvalidRequest, Problem
from lora_foundry.rows import Upload
from lora_foundry.transport import pause

if TYPE_CHECKING:
    from lora_foundry.client import Client

PIECE_BYTES = 8 * 1024 * 1024
_TUS = {"Tus-Resumable": "1.0.0"}
# Bytes that were damaged on their way: sent again.
_CHECKSUM_MISMATCH = 460

Progress = Callable[[int, int], None]


class Uploads:
    """Send files; `progress` is called with the bytes the server has and the size."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, uid: str) -> Upload:
        """Return an upload with what became of its files."""
        return Upload.of(self.client, self.client.transport.request("GET", f"/uploads/{uid}").json())

    def send(self, path: str | os.PathLike[str], *, dataset: str, progress: Progress | None = None) -> Upload:
        """Announce a file and send its bytes."""
        file = Path(path)
        names = {"filename": file.name, "dataset": dataset}
        headers = {
            **_TUS,
            "Upload-Length": str(file.stat().st_size),
            "Upload-Metadata": ",".join(
                f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in names.items()
            ),
        }
        answer = self.client.transport.request("POST", "/uploads", headers=headers)
        return self.resume(Upload.of(self.client, answer.json()).id, path, progress=progress)

    def resume(self, uid: str, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Upload:
        """Go on with an upload where the server stands, also one that another process began."""
        transport = self.client.transport
        size = Path(path).stat().st_size
        failures = 0
        with Path(path).open("rb") as source:
            offset = self.offset(uid)
            while offset < size:
                source.seek(offset)
                try:
                    offset = self._append(uid, offset, source.read(PIECE_BYTES))
                    failures = 0
                except (ConnectionFailed, urllib3.exceptions.HTTPError, Problem) as error:
                    failures += 1
                    if failures > transport.retries or not _may_go_on(error):
                        raise
                    transport.sleep(pause(failures - 1, getattr(error, "retry_after", None)))
                    offset = self.offset(uid)
                if progress is not None:
                    progress(offset, size)
        return self.get(uid)

    def offset(self, uid: str) -> int:
        """Return how many bytes the server has."""
        answer = self.client.transport.request("HEAD", f"/uploads/{uid}", headers=_TUS)
        return int(answer.headers["upload-offset"])

    def give_up(self, uid: str) -> None:
        """Delete an upload that is not complete."""
        self.client.transport.request("DELETE", f"/uploads/{uid}", headers=_TUS)

    def _append(self, uid: str, offset: int, piece: bytes) -> int:
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        headers = {
            **_TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {digest}",
        }
        answer = self.client.transport.request("PATCH", f"/uploads/{uid}", content=piece, headers=headers)
        return int(answer.headers["upload-offset"])


def _may_go_on(error: Exception) -> bool:
    """Tell whether asking for the offset and sending from there may help."""
    if isinstance(error, Conflict):
        return error.code == "offset_mismatch"
    if isinstance(error, InvalidRequest):
        return error.status == _CHECKSUM_MISMATCH
    return not isinstance(error, Problem) or error.retryable
