"""Short-lived links to stored files: signed, for whoever holds them, made only where a scoped row was found first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import IO

from django.core import signing
from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from core import storage
from core.errors import DomainError, NotFound
from core.http.decorators import machine_view

VALID_SECONDS = 300
_SALT = "core.downloads"
_CHUNK_BYTES = 512 * 1024


class LinkExpired(DomainError):
    """Say that a link was real and is too old."""

    status = 410


def download_link(key: str, *, filename: str, content_type: str, size: int) -> str:
    """Return an address that gives what is under `key` to its holder for five minutes, saved as `filename`."""
    disposition = content_disposition_header(True, filename) or "attachment"
    address = storage.signed_url(
        key, content_type=content_type, disposition=disposition, seconds=VALID_SECONDS
    )
    if address is not None:
        return address
    token = signing.dumps([key, filename, content_type, size], salt=_SALT)
    return reverse("core:file", args=[token])


@machine_view
@require_safe
def file(request: HttpRequest, token: str) -> HttpResponseBase:
    """Send the file behind a link; 404 for a link that was not made here, 410 for one that is too old."""
    try:
        key, filename, content_type, size = signing.loads(token, salt=_SALT, max_age=VALID_SECONDS)
    except signing.SignatureExpired:
        raise LinkExpired(
            "link_expired", "This link has expired. Open the page again and download from there."
        ) from None
    except signing.BadSignature:
        raise NotFound from None
    try:
        handle = storage.open_key(key)
    except FileNotFoundError as error:
        raise NotFound from error
    response = stream(request, handle, content_type)
    response["Content-Length"] = str(size)
    response["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def stream(request: HttpRequest, handle: IO[bytes], content_type: str) -> HttpResponseBase:
    """Send an open file in pieces; under ASGI a plain iterator would be read whole into memory."""
    if isinstance(request, ASGIRequest):
        return StreamingHttpResponse(_pieces(handle), content_type=content_type)
    return FileResponse(handle, content_type=content_type)


async def _pieces(handle: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(handle.read, _CHUNK_BYTES):
            yield piece
    finally:
        handle.close()
