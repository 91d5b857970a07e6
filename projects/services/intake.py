"""Look at what was uploaded: pictures become items of the dataset, captions go beside their pictures.

May be run twice and killed at any moment: each file of an upload has a position, and what is done there is done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO

from django.db import transaction
from django.utils import translation

from core import storage
from core.quotas import answer
from projects import archive
from projects.archive import Archive, Entry, Role, short_stem, stem_of
from projects.ingest import MAX_PICTURE_BYTES, CheckedPicture, Kind, check_picture, sniff
from projects.models import Item, Upload, UploadOutcome, UploadState
from projects.reasons import Refusal, explain
from projects.services.blobs import store_blob
from projects.services.captions import Captions, Loose, locked_dataset_of
from projects.services.claims import Claim, ClaimLost, claimed
from projects.services.results import Result, Results
from projects.services.uploads import assemble, part_keys

# A decoder that dies of a file takes its whole process along, and does so each time.
_MOST_KILLS = 5


def ingest(upload: Upload) -> bool:
    """Look at the files of a complete upload; return False if another process is doing it right now."""
    if upload.state != UploadState.PROCESSING:
        return True
    try:
        with claimed(upload) as claim:
            if claim is None:
                return False
            if claim.kills >= _MOST_KILLS:
                _refuse_rest(claim)
            else:
                _look_at(claim)
            _finish(claim)
    except ClaimLost:
        return False
    return True


def give_up(upload: Upload) -> None:
    """End an upload that failed again and again, with a result that says so, unless somebody looks at it now."""
    with suppress(ClaimLost), claimed(upload) as claim:
        if claim is not None:
            _refuse_rest(claim)
            _finish(claim)


def _look_at(claim: Claim) -> None:
    with translation.override(_language(claim.upload)), tempfile.TemporaryFile() as file:
        assemble(claim.upload, file, claim.hold)
        file.seek(0)
        _Intake(claim).look_at(file)


def _refuse_rest(claim: Claim) -> None:
    with translation.override(_language(claim.upload)):
        results = Results(claim)
        position = max(results.done, default=-1) + 1
        results.refuse(position, claim.upload.filename, "failed", explain("failed"))


def _language(upload: Upload) -> str:
    return upload.created_by.language if upload.created_by else "en"


def _finish(claim: Claim) -> None:
    if not claim.rows().update(state=UploadState.DONE):
        raise ClaimLost(claim.upload.uid)
    for key in part_keys(claim.upload):
        storage.delete(key)


class _Intake:
    """Do the work of one upload, file by file."""

    def __init__(self, claim: Claim) -> None:
        self.upload = claim.upload
        self.team = claim.upload.team
        self.results = Results(claim)
        self.captions = Captions(self.results)

    def look_at(self, file: IO[bytes]) -> None:
        name = self.upload.filename
        head = file.read(64)
        file.seek(0)
        kind = sniff(head)
        if kind is Kind.ZIP:
            self._zip(file)
        elif archive.is_table_name(name) and kind is Kind.UNKNOWN:
            self._one(0, name, lambda: self._table(name, file.read(archive.MAX_TABLE_BYTES)))
        elif archive.is_caption_name(name) and kind in (Kind.UNKNOWN, Kind.EMPTY):
            self._one(0, name, lambda: self._caption(name, file.read(archive.MAX_CAPTION_BYTES + 1)))
        else:
            self._one(0, name, lambda: self._picture(0, name, file.read(MAX_PICTURE_BYTES + 1)))

    def _zip(self, file: IO[bytes]) -> None:
        try:
            opened = Archive(file)
        except Refusal as refusal:
            self.results.refuse(0, self.upload.filename, refusal.code, refusal.message)
            return
        # Captions and tables first, so that a picture is never seen without its own.
        numbered = list(enumerate(opened.entries))
        listed: dict[str, str] = {}
        for position, entry in numbered:
            if entry.role in (Role.CAPTION, Role.TABLE):
                listed |= self._collect(opened, position, entry)
        for position, entry in numbered:
            if entry.role is Role.PICTURE:
                self._one(position, entry.name, partial(self._entry, opened, position, entry))
            elif entry.code:
                outcome = UploadOutcome.SKIPPED if entry.role is Role.SKIPPED else UploadOutcome.REFUSED
                self.results.note(Result(position, entry.name, outcome, entry.code, explain(entry.code)))
        self.captions.put(self._left_over(opened.entries, listed))
        if not any(entry.role in (Role.PICTURE, Role.CAPTION, Role.TABLE) for entry in opened.entries):
            message = explain("no_pictures")
            self.results.refuse(len(opened.entries), self.upload.filename, "no_pictures", message)

    def _collect(self, opened: Archive, position: int, entry: Entry) -> dict[str, str]:
        """Read a caption or a table of the zip, and return the rows of a table by name."""
        beside = self.captions.beside
        # Read again on a second run as well: the pictures still to come need it.
        try:
            if entry.role is Role.CAPTION:
                content = opened.read(entry, archive.MAX_CAPTION_BYTES)
                beside[stem_of(entry.name)] = archive.read_caption(content)
                return {}
            content = opened.read(entry, archive.MAX_TABLE_BYTES)
            table = archive.read_table(content, is_csv=_is_csv(entry.name))
        except Refusal as refusal:
            self.results.refuse(position, entry.name, refusal.code, refusal.message)
            return {}
        folder, slash, _name = entry.name.rpartition("/")
        listed = {f"{folder}{slash}{name}": caption for name, caption in table.items()}
        for name, caption in listed.items():
            # A file beside the picture is nearer to it than a table.
            beside.setdefault(stem_of(name), caption)
        self._note_table(position, entry.name, len(table))
        return listed

    def _left_over(self, entries: list[Entry], listed: dict[str, str]) -> list[Loose]:
        """Return the captions of the zip whose result is still open: those of files, and rows without a picture.

        Their picture may be in the dataset already, or come later.
        """
        beside = self.captions.beside
        files = [
            Loose(position, entry.name, beside[stem_of(entry.name)])
            for position, entry in enumerate(entries)
            if entry.role is Role.CAPTION and stem_of(entry.name) in beside
        ]
        settled = {stem_of(caption.name) for caption in files} | self.captions.pictures.keys()
        rows = [
            Loose(position, name, caption)
            for position, (name, caption) in enumerate(listed.items(), len(entries) + 1)
            if stem_of(name) not in settled
        ]
        return files + rows

    def _entry(self, opened: Archive, position: int, entry: Entry) -> None:
        self._picture(position, entry.name, opened.read(entry))

    def _one(self, position: int, name: str, work: Callable[[], None]) -> None:
        """Do one file unless it is done; a refusal is its result."""
        if position in self.results.done:
            return
        try:
            work()
        except Refusal as refusal:
            self.results.refuse(position, name, refusal.code, refusal.message)

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
        with transaction.atomic():
            dataset = locked_dataset_of(self.upload)
            items = Item.objects.for_team(self.team).filter(dataset=dataset)
            item = items.filter(blob=blob).first()
            if item is None:
                room = answer(self.team, "pictures_per_dataset", used=items.count())
                if not room.is_allowed:
                    raise Refusal("dataset_full", limit=room.limit)
            outcome = UploadOutcome.ADDED if item is None else UploadOutcome.DUPLICATE
            if item is None:
                item = Item.objects.create(
                    team=self.team, dataset=dataset, blob=blob, filename=name, stem=short_stem(name)
                )
            self.captions.give(item, name)
            code, message = _remark(outcome, picture)
            self.results.note(Result(position, name, outcome, code, message, item=item))

    def _caption(self, name: str, content: bytes) -> None:
        self.captions.put([Loose(0, name, archive.read_caption(content))])

    def _table(self, name: str, content: bytes) -> None:
        """Take every row of a table as if it were a caption file."""
        table = archive.read_table(content, is_csv=_is_csv(name))
        rows = enumerate(table.items(), start=1)
        with transaction.atomic():
            self.captions.put([Loose(position, row, caption) for position, (row, caption) in rows])
            self._note_table(0, name, len(table))

    def _note_table(self, position: int, name: str, count: int) -> None:
        message = explain("captions_applied", count=count)
        self.results.note(Result(position, name, UploadOutcome.CAPTION, "captions_applied", message))


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _remark(outcome: UploadOutcome, picture: CheckedPicture) -> tuple[str, str]:
    if outcome is UploadOutcome.DUPLICATE:
        return "duplicate", explain("duplicate")
    if not picture.remarks:
        return "", ""
    first = picture.remarks[0]
    return first.code, " ".join(explain(remark.code, **remark.values) for remark in picture.remarks)
