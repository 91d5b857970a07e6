"""Speak tus 1.0.0 (https://tus.io/protocols/resumable-upload): core, creation, termination, expiration, checksum.

The pages and the API answer through these four functions, so both behave alike; they differ in who may call.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from io import BytesIO

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.http import http_date
from django.utils.translation import gettext as _

from accounts.actor import Actor
from core.errors import DomainError, TooLarge
from projects.models import Upload, UploadState
from projects.services.uploads import Readable, append, create_upload, terminate, upload_of

VERSION = "1.0.0"
_EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
_CHECKSUMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "md5": hashlib.md5}
_OCTETS = "application/offset+octet-stream"


def options() -> HttpResponse:
    """Say what this server can do."""
    return HttpResponse(
        status=204,
        headers={
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": _EXTENSIONS,
            "Tus-Max-Size": str(settings.UPLOAD_MAX_BYTES),
            "Tus-Checksum-Algorithm": ",".join(_CHECKSUMS),
        },
    )


def create(
    request: HttpRequest, actor: Actor, dataset_uid: str, address_of: Callable[[Upload], str]
) -> HttpResponse:
    """Announce an upload (`Upload-Length`, `Upload-Metadata: filename <base64>`), with first bytes if they came."""
    _require_version(request)
    length = request.headers.get("Upload-Length", "")
    if not length.isascii() or not length.isdigit() or len(length) > 15:
        raise _bad_request("upload_length_invalid", "Send Upload-Length with the size of the file in bytes.")
    names = metadata(request)
    upload = create_upload(
        actor=actor,
        dataset_uid=dataset_uid or names.get("dataset", ""),
        filename=names.get("filename") or names.get("name") or "upload",
        size=int(length),
    )
    if request.headers.get("Content-Type", "") == _OCTETS and _content_length(request):
        upload = append(
            actor=actor,
            uid=upload.uid,
            offset=0,
            source=_body(request),
            length=_content_length(request),
        )
    return _answer(201, upload, Location=address_of(upload))


def status(request: HttpRequest, actor: Actor, uid: str) -> HttpResponse:
    """Say how many bytes have arrived."""
    upload = upload_of(actor=actor, uid=uid)
    response = _answer(200, upload)
    response["Upload-Length"] = str(upload.size)
    response["Cache-Control"] = "no-store"
    return response


def receive(request: HttpRequest, actor: Actor, uid: str) -> HttpResponse:
    """Take the bytes from `Upload-Offset` on."""
    _require_version(request)
    if request.headers.get("Content-Type", "").split(";")[0].strip() != _OCTETS:
        error = DomainError("content_type_wrong", f"Send the bytes as Content-Type: {_OCTETS}.")
        error.status = 415
        raise error
    offset = request.headers.get("Upload-Offset", "")
    if not offset.isascii() or not offset.isdigit() or len(offset) > 15:
        raise _bad_request("upload_offset_invalid", "Send Upload-Offset with the byte the body begins at.")
    upload = append(
        actor=actor, uid=uid, offset=int(offset), source=_body(request), length=_content_length(request)
    )
    return _answer(204, upload)


def remove(request: HttpRequest, actor: Actor, uid: str) -> HttpResponse:
    """Give up an upload that is not complete."""
    _require_version(request)
    terminate(actor=actor, uid=uid)
    return HttpResponse(status=204, headers={"Tus-Resumable": VERSION})


def metadata(request: HttpRequest) -> dict[str, str]:
    """Return the decoded pairs of `Upload-Metadata`; raise DomainError (400) when it is malformed."""
    pairs: dict[str, str] = {}
    for part in filter(
        None, (part.strip() for part in request.headers.get("Upload-Metadata", "").split(","))
    ):
        key, _blank, value = part.partition(" ")
        try:
            pairs[key] = base64.b64decode(value, validate=True).decode("utf-8")
            if "\0" in pairs[key]:
                raise ValueError("a zero byte")
        except ValueError:  # of base64, of UTF-8, or ours
            raise _bad_request("upload_metadata_invalid", "Upload-Metadata is `key base64,...`.") from None
    return pairs


def _body(request: HttpRequest) -> Readable:
    """Return the body to read from, after its checksum was compared where one came."""
    checksum = request.headers.get("Upload-Checksum")
    if not checksum:
        return request
    algorithm, _blank, expected = checksum.partition(" ")
    if algorithm not in _CHECKSUMS:
        raise _bad_request("checksum_unknown", f"Known checksums: {', '.join(_CHECKSUMS)}.")
    # To refuse a wrong body whole it must be held whole, so it may be one piece only.
    content = request.read(settings.UPLOAD_CHUNK_BYTES + 1)
    if len(content) > settings.UPLOAD_CHUNK_BYTES:
        raise TooLarge("piece_too_large", _("Send this file in smaller pieces."))
    digest = _CHECKSUMS[algorithm](content, usedforsecurity=False).digest()
    if base64.b64encode(digest).decode() != expected.strip():
        error = DomainError("checksum_mismatch", _("These bytes were damaged on their way. Send them again."))
        error.status = 460
        raise error
    return BytesIO(content)


def _answer(code: int, upload: Upload, **headers: str) -> HttpResponse:
    response = HttpResponse(status=code, headers=headers)
    response["Tus-Resumable"] = VERSION
    response["Upload-Offset"] = str(upload.offset)
    if upload.state == UploadState.RECEIVING:
        response["Upload-Expires"] = http_date(upload.expires_at.timestamp())
    return response


def _content_length(request: HttpRequest) -> int | None:
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _require_version(request: HttpRequest) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        error = DomainError("tus_version_wrong", "Send Tus-Resumable: 1.0.0.")
        error.status = 412
        raise error


def _bad_request(code: str, message: str) -> DomainError:
    error = DomainError(code, message)
    error.status = 400
    return error
