"""Receive files in pieces: the service behind tus uploads, one-shot API uploads and plain forms.

The offset lives in the database and moves under the row's lock together with the stored part, so that two senders
cannot mix their bytes and a lost connection loses at most the part that was on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import IO, Protocol

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.db.models import Sum
from django.http import UnreadablePostError
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from core import storage
from core.errors import Conflict, DomainError, NotFound, TooLarge
from core.outbox import enqueue
from core.quotas import demand
from projects.archive import display_name
from projects.models import Blob, Dataset, Upload, UploadState
from projects.services.projects import refuse_archived
from projects.visibility import seen_by

KEPT_FOR = timedelta(hours=24)
# What a team may have on its way at once; what is never finished expires by itself.
MAX_UNFINISHED = 2_000
# What one dataset may hold at most.
MAX_ITEMS = 20_000


class Readable(Protocol):
    """Anything bytes can be read from: a request, an uploaded file, a BytesIO."""

    def read(self, size: int, /) -> bytes: ...


class Gone(DomainError):
    """Say that an upload was given up or has expired."""

    status = 410


def create_upload(*, actor: Actor, dataset_uid: str, filename: str, size: int) -> Upload:
    """Announce a file of `size` bytes for a dataset; an empty file is complete at once.

    Raises NotFound, Conflict (`project_archived`; what was announced before may still come), TooLarge
    (`upload_too_large`), QuotaExceeded (`unfinished_uploads`, `stored_bytes`).
    """
    require(actor, Can.DATASET_EDIT)
    datasets = seen_by(actor, Dataset.objects.for_team(actor.team)).select_related("project")
    dataset = datasets.filter(uid=dataset_uid).first()
    if dataset is None:
        raise NotFound
    refuse_archived(dataset.project)
    if size < 0:
        raise DomainError("size_invalid", _("The size of a file cannot be negative."))
    if size > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(
            "upload_too_large",
            _("This file is larger than %(limit)s GB. Split it and upload the parts.")
            % {"limit": f"{settings.UPLOAD_MAX_BYTES / 1024**3:.1f}"},
            limit=settings.UPLOAD_MAX_BYTES,
        )
    with transaction.atomic():
        # One at a time: two uploads at once cannot both be the last that fits.
        Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        demand(actor.team, "unfinished_uploads")
        demand(actor.team, "stored_bytes", adding=size)
        upload: Upload = Upload.objects.create(
            team=actor.team,
            dataset=dataset,
            filename=display_name(filename),
            size=size,
            created_by=actor.user,
            expires_at=timezone.now() + KEPT_FOR,
        )
        if size == 0:
            _complete(upload)
    return upload


def unfinished_count(team: Team) -> int:
    """Return how many uploads of the team are on their way."""
    rows = Upload.objects.for_team(team).filter(state=UploadState.RECEIVING, expires_at__gt=timezone.now())
    return rows.count()


def stored_bytes(team: Team) -> int:
    """Return what the team has stored, and what its uploads on their way will be."""
    blobs = Blob.objects.for_team(team).aggregate(n=Sum("size"))["n"] or 0
    coming = Upload.objects.for_team(team).exclude(state=UploadState.DONE).aggregate(n=Sum("size"))["n"] or 0
    return int(blobs + coming)


def upload_of(*, actor: Actor, uid: str) -> Upload:
    """Return an upload of the actor's team; raise NotFound, or Gone once it has expired."""
    require(actor, Can.DATASET_EDIT)
    upload: Upload | None = (
        seen_by(actor, Upload.objects.for_team(actor.team), "dataset__project")
        .filter(uid=uid)
        .select_related("dataset")
        .first()
    )
    if upload is None:
        raise NotFound
    _refuse_expired(upload)
    return upload


def append(*, actor: Actor, uid: str, offset: int, source: Readable, length: int | None = None) -> Upload:
    """Take what `source` gives as the bytes from `offset` on, part by part, and return the upload.

    When the last byte is there, the files in it are looked at in the background. Raises NotFound, Gone, Conflict
    (`offset_mismatch`) and TooLarge (`more_than_announced`); what was stored before a failure stays.
    """
    require(actor, Can.DATASET_EDIT)
    upload = upload_of(actor=actor, uid=uid)
    if length is not None and offset + length > upload.size:
        raise TooLarge("more_than_announced", _("More bytes came than were announced for this file."))
    while True:
        piece = _read_piece(source)
        if not piece:
            break
        upload = _store_part(actor, upload.pk, offset, piece)
        offset = upload.offset
    if upload.offset != offset:
        raise _mismatch(upload)
    return upload


def terminate(*, actor: Actor, uid: str) -> None:
    """Give up an upload that is not complete and delete its parts; raise Conflict (`upload_complete`)."""
    require(actor, Can.DATASET_EDIT)
    with transaction.atomic():
        uploads = seen_by(actor, Upload.objects.for_team(actor.team), "dataset__project")
        upload = uploads.select_for_update(of=("self",)).filter(uid=uid).first()
        if upload is None:
            raise NotFound
        if upload.state != UploadState.RECEIVING:
            raise Conflict("upload_complete", _("This upload is complete and cannot be given up any more."))
        keys = part_keys(upload)
        upload.delete()
    for key in keys:
        storage.delete(key)


def receive_file(*, actor: Actor, dataset_uid: str, filename: str, size: int, source: Readable) -> Upload:
    """Take a whole file at once; the same as creating an upload and appending to it."""
    upload = create_upload(actor=actor, dataset_uid=dataset_uid, filename=filename, size=size)
    return append(actor=actor, uid=upload.uid, offset=0, source=source, length=size) if size else upload


def unfinished_uploads(dataset: Dataset) -> list[Upload]:
    """Return, locked, the uploads of a dataset that still have parts in storage."""
    rows = Upload.objects.for_team(dataset.team).select_for_update(of=("self",)).select_related("team")
    return list(rows.filter(dataset=dataset).exclude(state=UploadState.DONE).order_by("id"))


def part_keys(upload: Upload) -> list[str]:
    """Return the storage keys of the parts received so far, and of the one that may be half written."""
    return [storage.upload_part_key(upload.team.uid, upload.uid, n) for n in range(upload.parts + 1)]


def assemble(upload: Upload, target: IO[bytes], before_part: Callable[[], None]) -> None:
    """Write the received parts of `upload` one after the other to `target`; there may be hundreds, from far away."""
    for number in range(upload.parts):
        before_part()
        target.write(storage.read_bytes(storage.upload_part_key(upload.team.uid, upload.uid, number)))


def delete_expired(upload: Upload) -> bool:
    """Delete an upload that was never finished, with its parts; return False if it has gone on meanwhile."""
    rows = Upload.objects.for_team(upload.team).filter(
        pk=upload.pk, state=UploadState.RECEIVING, expires_at__lt=timezone.now()
    )
    # The lock ends the race with a part that arrives in the last moment.
    with transaction.atomic():
        locked = rows.select_for_update(of=("self",)).first()
        if locked is None:
            return False
        keys = part_keys(locked)
        rows.delete()
    for key in keys:
        storage.delete(key)
    return True


def _read_piece(source: Readable) -> bytes:
    """Read up to one part; a connection that breaks off gives what had come until then."""
    pieces, missing = [], settings.UPLOAD_CHUNK_BYTES
    try:
        while missing and (piece := source.read(min(missing, 1024 * 1024))):
            pieces.append(piece)
            missing -= len(piece)
    except (UnreadablePostError, ConnectionError):
        return b"".join(pieces)
    except RequestDataTooBig as error:
        raise TooLarge("piece_too_large", _("Send this file in smaller pieces.")) from error
    return b"".join(pieces)


def _store_part(actor: Actor, pk: int, offset: int, piece: bytes) -> Upload:
    with transaction.atomic():
        rows = Upload.objects.for_team(actor.team).select_for_update(of=("self",)).select_related("team")
        upload: Upload | None = rows.filter(pk=pk).first()
        if upload is None:
            raise NotFound
        _refuse_expired(upload)
        if upload.offset != offset or upload.state != UploadState.RECEIVING:
            raise _mismatch(upload)
        if offset + len(piece) > upload.size:
            raise TooLarge("more_than_announced", _("More bytes came than were announced for this file."))
        # Written under the lock: a repeat of the same part replaces what a crash may have left.
        storage.save_bytes(storage.upload_part_key(upload.team.uid, upload.uid, upload.parts), piece)
        upload.offset += len(piece)
        upload.parts += 1
        upload.expires_at = timezone.now() + KEPT_FOR
        upload.save(update_fields=["offset", "parts", "expires_at"])
        if upload.offset == upload.size:
            _complete(upload)
    return upload


def _complete(upload: Upload) -> None:
    from projects.tasks import ingest_upload

    upload.state = UploadState.PROCESSING
    upload.save(update_fields=["state"])
    enqueue(ingest_upload, upload.uid)


def _refuse_expired(upload: Upload) -> None:
    if upload.state == UploadState.RECEIVING and upload.expires_at <= timezone.now():
        raise Gone("upload_expired", _("This upload has expired. Start it again."))


def _mismatch(upload: Upload) -> Conflict:
    return Conflict(
        "offset_mismatch",
        _("The upload stands at another byte. Ask for its offset and continue there."),
        offset=upload.offset,
    )
