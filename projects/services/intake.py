"""Look at what was uploaded: pictures become items of the dataset, captions go beside their pictures.

May be run twice and killed at any moment: each file of an upload has a position, and what is done there is done.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from django.db import connection, transaction
from django.utils import timezone, translation

from accounts.models import Team
from core import storage
from projects import archive
from projects.archive import Archive, Entry, Role
from projects.ingest import MAX_PICTURE_BYTES, CheckedPicture, Kind, check_picture, sniff
from projects.models import Dataset, Item, Upload, UploadedFile, UploadOutcome, UploadState
from projects.reasons import Refusal, explain
from projects.services.blobs import store_blob
from projects.services.items import write_captions
from projects.services.uploads import assemble, part_keys

log = logging.getLogger(__name__)

MAX_ITEMS = 20_000
# How long a caption waits for its picture.
CAPTION_WAITS = timedelta(hours=24)
# First number of the advisory locks of this module: "uplo" as bytes.
_LOCK_SPACE = 0x75706C6F


def ingest(upload: Upload) -> bool:
    """Look at the files of a complete upload; return False if another process is doing it right now."""
    if upload.state != UploadState.PROCESSING:
        return True
    with _alone(upload) as is_alone:
        if not is_alone:
            return False
        upload.refresh_from_db(fields=["state"])
        if upload.state == UploadState.PROCESSING:
            with translation.override(_language(upload)), tempfile.TemporaryFile() as file:
                assemble(upload, file)
                file.seek(0)
                _Intake(upload).look_at(file)
            _finish(upload)
    return True


def give_up(upload: Upload) -> None:
    """End an upload that failed again and again, with a result that says so."""
    if upload.state != UploadState.PROCESSING:
        return
    with translation.override(_language(upload)):
        intake = _Intake(upload)
        position = max(intake.done, default=-1) + 1
        intake.note(position, upload.filename, UploadOutcome.REFUSED, "failed", explain("failed"))
    _finish(upload)


def _language(upload: Upload) -> str:
    return upload.created_by.language if upload.created_by else "en"


def _finish(upload: Upload) -> None:
    Upload.objects.for_team(upload.team).filter(pk=upload.pk, state=UploadState.PROCESSING).update(
        state=UploadState.DONE
    )
    for key in part_keys(upload):
        storage.delete(key)


class _Intake:
    """Do the work of one upload, file by file."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.team: Team = upload.team
        earlier = UploadedFile.objects.for_team(self.team).filter(upload=upload)
        results = list(earlier.values_list("position", "filename", "outcome", "item_id"))
        self.done = {position for position, *_rest in results}
        # Of a zip, by folder and stem: the captions, and the pictures they belong to.
        self.captions: dict[str, str] = {}
        self.pictures = {
            archive.stem_of(name): item_id
            for _position, name, outcome, item_id in results
            if item_id and outcome != UploadOutcome.CAPTION
        }

    def look_at(self, file: IO[bytes]) -> None:
        name = self.upload.filename
        head = file.read(64)
        file.seek(0)
        kind = sniff(head)
        if kind is Kind.ZIP:
            self._zip(file)
        elif archive.is_table_name(name) and kind is Kind.UNKNOWN:
            self._one(0, name, lambda: self._table(0, name, file.read(archive.MAX_TABLE_BYTES)))
        elif archive.is_caption_name(name) and kind in (Kind.UNKNOWN, Kind.EMPTY):
            self._one(0, name, lambda: self._caption(0, name, file.read(archive.MAX_CAPTION_BYTES + 1)))
        else:
            self._one(0, name, lambda: self._picture(0, name, file.read(MAX_PICTURE_BYTES + 1)))

    def _zip(self, file: IO[bytes]) -> None:
        try:
            opened = Archive(file)
        except Refusal as refusal:
            self.note(0, self.upload.filename, UploadOutcome.REFUSED, refusal.code, refusal.message)
            return
        # Captions and tables first, so that a picture is never seen without its own.
        numbered = list(enumerate(opened.entries))
        for position, entry in numbered:
            if entry.role in (Role.CAPTION, Role.TABLE):
                self._collect(opened, position, entry)
        for position, entry in numbered:
            if entry.role is Role.PICTURE:
                self._one(position, entry.name, partial(self._entry, opened, position, entry))
            elif entry.code:
                outcome = UploadOutcome.SKIPPED if entry.role is Role.SKIPPED else UploadOutcome.REFUSED
                self.note(position, entry.name, outcome, entry.code, explain(entry.code))
        # What found no picture in the zip may belong to one that is here already, or that comes later.
        for position, entry in numbered:
            caption = self.captions.get(archive.stem_of(entry.name))
            if entry.role is Role.CAPTION and caption is not None and position not in self.done:
                self._put_caption(position, entry.name, caption)
        if not any(entry.role in (Role.PICTURE, Role.CAPTION, Role.TABLE) for entry in opened.entries):
            message = explain("no_pictures")
            position = len(opened.entries)
            self.note(position, self.upload.filename, UploadOutcome.REFUSED, "no_pictures", message)

    def _collect(self, opened: Archive, position: int, entry: Entry) -> None:
        def read() -> None:
            if entry.role is Role.CAPTION:
                content = opened.read(entry, archive.MAX_CAPTION_BYTES)
                self.captions[archive.stem_of(entry.name)] = archive.read_caption(content)
                return
            content = opened.read(entry, archive.MAX_TABLE_BYTES)
            folder, _slash, _name = entry.name.rpartition("/")
            table = archive.read_table(content, is_csv=entry.name.lower().endswith(".csv"))
            for stem, caption in table.items():
                # A file beside the picture is nearer to it than a table.
                self.captions.setdefault(f"{folder}/{stem}".lstrip("/").casefold(), caption)
            message = explain("captions_applied", count=len(table))
            self.note(position, entry.name, UploadOutcome.CAPTION, "captions_applied", message)

        # Read again on a second run as well: the pictures still to come need it.
        try:
            read()
        except Refusal as refusal:
            self.note(position, entry.name, UploadOutcome.REFUSED, refusal.code, refusal.message)

    def _entry(self, opened: Archive, position: int, entry: Entry) -> None:
        self._picture(position, entry.name, opened.read(entry))

    def _one(self, position: int, name: str, work: Callable[[], None]) -> None:
        """Do one file unless it is done; a refusal is its result."""
        if position in self.done:
            return
        try:
            work()
        except Refusal as refusal:
            self.note(position, name, UploadOutcome.REFUSED, refusal.code, refusal.message)

    def _picture(self, position: int, name: str, content: bytes) -> None:
        picture = check_picture(content)
        blob = store_blob(
            team=self.team,
            content=picture.content,
            content_type=picture.content_type,
            width=picture.width,
            height=picture.height,
            thumbnail=picture.thumbnail,
        )
        stem = _short_stem(name)
        with transaction.atomic():
            dataset = self._locked_dataset()
            items = Item.objects.for_team(self.team).filter(dataset=dataset)
            item = items.filter(blob=blob).first()
            if item is None and items.count() >= MAX_ITEMS:
                raise Refusal("dataset_full", limit=MAX_ITEMS)
            outcome = UploadOutcome.ADDED if item is None else UploadOutcome.DUPLICATE
            if item is None:
                item = Item.objects.create(
                    team=self.team, dataset=dataset, blob=blob, filename=name, stem=stem
                )
            self.pictures[archive.stem_of(name)] = item.pk
            self._caption_for(item, self.captions.get(archive.stem_of(name), ""))
            code, message = _remark(outcome, picture)
            self.note(position, name, outcome, code, message, item=item)

    def _caption_for(self, item: Item, caption: str) -> None:
        """Give a picture the caption that came with it, or one that came before it."""
        waiting = UploadedFile.objects.for_team(self.team).filter(
            upload__dataset_id=item.dataset_id,
            outcome=UploadOutcome.CAPTION,
            item=None,
            stem=item.stem,
            code="caption_waiting",
            created_at__gte=timezone.now() - CAPTION_WAITS,
        )
        earlier = None if caption else waiting.order_by("-id").first()
        if earlier is not None:
            caption = earlier.caption
            waiting.update(item=item, code="caption_applied", message=explain("caption_applied"))
        if caption and caption != item.caption:
            item.caption = caption
            item.save(update_fields=["caption"])

    def _caption(self, position: int, name: str, content: bytes) -> None:
        self._put_caption(position, name, archive.read_caption(content))

    def _put_caption(self, position: int, name: str, caption: str) -> None:
        """Put a caption beside the picture of its name (in the same zip first), or keep it until that comes."""
        stem = _short_stem(name)
        beside = self.pictures.get(archive.stem_of(name))
        with transaction.atomic():
            dataset = self._locked_dataset()
            items = Item.objects.for_team(self.team).filter(dataset=dataset)
            if beside:
                item = items.filter(pk=beside).first()
            elif self._picture_is_coming(stem):
                # An older picture of the same name keeps its own caption.
                item = None
            else:
                item = items.filter(stem=stem).last()
            if item is not None and item.caption != caption:
                item.caption = caption
                item.save(update_fields=["caption"])
            code = "caption_waiting" if item is None else "caption_applied"
            self.note(
                position,
                name,
                UploadOutcome.CAPTION,
                code,
                explain(code),
                item=item,
                stem=stem,
                caption=caption,
            )

    def _picture_is_coming(self, stem: str) -> bool:
        """Tell whether another upload of this name, not a caption, is on its way to the same dataset.

        Asked under the dataset's lock. One whose file has its result is not coming any more: it has looked for
        its caption already, even if the upload as a whole is not marked done yet.
        """
        others = (
            Upload.objects.for_team(self.team)
            .filter(dataset_id=self.upload.dataset_id, filename__istartswith=stem, files__isnull=True)
            .filter(expires_at__gt=timezone.now())
            .exclude(state=UploadState.DONE)
            .exclude(pk=self.upload.pk)
        )
        return any(
            _short_stem(name) == stem and not archive.is_caption_name(name)
            for name in others.values_list("filename", flat=True)
        )

    def _table(self, position: int, name: str, content: bytes) -> None:
        """Put the captions of a table beside the pictures that are there."""
        table = archive.read_table(content, is_csv=name.lower().endswith(".csv"))
        with transaction.atomic():
            dataset = self._locked_dataset()
            items = Item.objects.for_team(self.team).filter(dataset=dataset, stem__in=list(table))
            changed = [item for item in items if item.caption != table[item.stem]]
            for item in changed:
                item.caption = table[item.stem]
            write_captions(changed)
            message = explain("captions_applied", count=len(items))
            self.note(position, name, UploadOutcome.CAPTION, "captions_applied", message)

    def _locked_dataset(self) -> Dataset:
        """Lock the dataset, so that a picture and its caption that come at the same time see each other."""
        dataset: Dataset = (
            Dataset.objects.for_team(self.team).select_for_update(no_key=True).get(pk=self.upload.dataset_id)
        )
        return dataset

    def note(
        self,
        position: int,
        name: str,
        outcome: UploadOutcome,
        code: str = "",
        message: str = "",
        *,
        item: Item | None = None,
        stem: str = "",
        caption: str = "",
    ) -> None:
        if position in self.done:
            return
        UploadedFile.objects.create(
            team=self.team,
            upload=self.upload,
            position=position,
            item=item,
            filename=name[-255:],
            outcome=outcome,
            code=code,
            message=message[:400],
            stem=stem,
            caption=caption,
        )
        self.done.add(position)


def _short_stem(name: str) -> str:
    return archive.stem_of(PurePosixPath(name).name)


def _remark(outcome: UploadOutcome, picture: CheckedPicture) -> tuple[str, str]:
    if outcome is UploadOutcome.DUPLICATE:
        return "duplicate", explain("duplicate")
    if not picture.remarks:
        return "", ""
    first = picture.remarks[0]
    return first.code, " ".join(explain(remark.code, **remark.values) for remark in picture.remarks)


@contextmanager
def _alone(upload: Upload) -> Iterator[bool]:
    """Hold a lock on this upload that ends with the process; give False if another process has it."""
    with connection.cursor() as cursor:
        key = [_LOCK_SPACE, upload.pk % 2**31]
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
        row = cursor.fetchone()
        is_alone = bool(row and row[0])
        try:
            yield is_alone
        finally:
            if is_alone:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)
