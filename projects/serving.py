"""Answer with stored bytes: right type, never sniffed, cached for good because the content is the address."""

from __future__ import annotations

from typing import TypeVar

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags

from core import storage
from core.downloads import download_link, stream
from core.errors import NotFound
from projects.models import Blob

Answer = TypeVar("Answer", bound=HttpResponseBase)

# What is small enough to go out in one piece.
_WHOLE_BYTES = 2 * 1024**2
_CACHED = "private, max-age=31536000, immutable"


def serve_picture(request: HttpRequest, blob: Blob) -> HttpResponseBase:
    """Send a stored picture for showing."""
    return _send(
        request, storage.blob_key(blob.team.uid, blob.sha256), blob.sha256, blob.content_type, blob.size
    )


def serve_thumbnail(request: HttpRequest, blob: Blob) -> HttpResponseBase:
    """Send a picture's thumbnail, or the picture itself where none was made (a sample of a training)."""
    key = storage.thumbnail_key(blob.team.uid, blob.sha256)
    etag = f"{blob.sha256}-t"
    if _has(request, etag):
        return _not_modified(etag)
    try:
        content = storage.read_bytes(key)
    except FileNotFoundError:
        return serve_picture(request, blob)
    return _headers(HttpResponse(content, content_type="image/webp"), etag)


def serve_download(blob: Blob, filename: str) -> HttpResponseRedirect:
    """Lead to a file to keep under `filename`, by a link that lasts five minutes."""
    address = download_link(
        storage.blob_key(blob.team.uid, blob.sha256),
        filename=filename,
        content_type=blob.content_type,
        size=blob.size,
    )
    response = HttpResponseRedirect(address)
    response["Cache-Control"] = "private, no-store"
    return response


def _send(request: HttpRequest, key: str, etag: str, content_type: str, size: int) -> HttpResponseBase:
    if _has(request, etag):
        return _not_modified(etag)
    try:
        handle = storage.open_key(key)
    except FileNotFoundError as error:
        raise NotFound from error
    response: HttpResponseBase
    if size <= _WHOLE_BYTES:
        with handle:
            response = HttpResponse(handle.read(), content_type=content_type)
    else:
        response = stream(request, handle, content_type)
    response["Content-Length"] = str(size)
    return _headers(response, etag)


def _has(request: HttpRequest, etag: str) -> bool:
    return f'"{etag}"' in parse_etags(request.headers.get("If-None-Match", ""))


def _not_modified(etag: str) -> HttpResponse:
    return _headers(HttpResponse(status=304), etag)


def _headers(response: Answer, etag: str) -> Answer:
    response["ETag"] = f'"{etag}"'
    response["Cache-Control"] = _CACHED
    response["X-Content-Type-Options"] = "nosniff"
    return response
