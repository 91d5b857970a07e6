"""Put captions beside their pictures, whichever of the two comes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from projects import archive
from projects.archive import is_same_picture, short_stem, stem_of
from projects.models import Dataset, Item, Upload, UploadedFile, UploadOutcome, UploadState
from projects.reasons import explain
from projects.services.claims import ClaimLost
from projects.services.items import write_captions
from projects.services.results import Result, Results

# How long a caption waits for its picture.
_WAITS = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Loose:
    """A caption that must find its picture: the place of its result, the name it came under, its text."""

    position: int
    name: str
    text: str


class Captions:
    """Bring together the pictures and captions of one upload, of its dataset, and those that wait there."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.upload = results.upload
        self.team = results.team
        # Of a zip, by folder and stem: the captions, and the pictures they belong to.
        self.beside: dict[str, str] = {}
        self.pictures = {
            stem_of(name): item_id
            for _position, name, outcome, item_id in results.earlier
            if item_id and outcome != UploadOutcome.CAPTION
        }

    def give(self, item: Item, name: str) -> None:
        """Give a picture that came as `name` the caption that came with it, or one that came before it."""
        self.pictures[stem_of(name)] = item.pk
        caption = self.beside.get(stem_of(name)) or self._waiting_for(item, name)
        if caption and caption != item.caption:
            item.caption = caption
            item.save(update_fields=["caption"])

    def put(self, captions: Sequence[Loose]) -> None:
        """Put captions beside pictures that are here already, and keep the others until theirs come."""
        captions = [caption for caption in captions if caption.position not in self.results.done]
        if not captions:
            return
        with transaction.atomic():
            found = self._pictures_of(captions, locked_dataset_of(self.upload))
            changed: dict[int, Item] = {}
            for caption in captions:
                item = found.get(caption.position)
                if item is not None and item.caption != caption.text:
                    item.caption = caption.text
                    changed[item.pk] = item
            write_captions(list(changed.values()))
            self.results.note(*(_result(caption, found.get(caption.position)) for caption in captions))

    def _pictures_of(self, captions: Sequence[Loose], dataset: Dataset) -> dict[int, Item]:
        """Return the pictures of captions by position: one of the same zip, else the newest of that name."""
        beside = {c.position: self.pictures.get(stem_of(c.name)) for c in captions}
        stems = {short_stem(c.name) for c in captions if not beside[c.position]} - self._stems_to_come()
        rows = Item.objects.for_team(self.team).filter(dataset=dataset)
        wanted = Q(stem__in=stems) | Q(pk__in={pk for pk in beside.values() if pk})
        items = {item.pk: item for item in rows.filter(wanted)}
        # A caption of another folder does not replace what came beside a picture.
        settled = {self.pictures[stem] for stem in self.beside if stem in self.pictures}
        by_stem: dict[str, list[Item]] = defaultdict(list)
        for item in items.values():
            if item.stem in stems and item.pk not in settled:
                by_stem[item.stem].append(item)
        found: dict[int, Item] = {}
        by_name: dict[int, list[Loose]] = defaultdict(list)
        for caption in captions:
            if picture := items.get(beside[caption.position] or 0):
                found[caption.position] = picture
            elif named := _newest_of_name(by_stem.get(short_stem(caption.name), []), caption.name):
                by_name[named.pk].append(caption)
        for pk, rivals in by_name.items():
            found |= {c.position: items[pk] for c in _agreeing(rivals, items[pk].filename)}
        return found

    def _stems_to_come(self) -> set[str]:
        """Return the names of pictures on their way to the dataset: an older one of that name keeps its caption.

        Asked under the dataset's lock. One whose file has its result is not coming any more: it has looked for
        its caption already, even if the upload as a whole is not marked done yet.
        """
        others = (
            Upload.objects.for_team(self.team)
            .filter(dataset_id=self.upload.dataset_id, files__isnull=True, expires_at__gt=timezone.now())
            .exclude(state=UploadState.DONE)
            .exclude(pk=self.upload.pk)
        )
        names = others.values_list("filename", flat=True)
        return {
            short_stem(name)
            for name in names
            if not archive.is_caption_name(name) and not archive.is_table_name(name)
        }

    def _waiting_for(self, item: Item, name: str) -> str:
        """Return the caption that waits for a picture called `name`, and let it wait no longer."""
        rows = UploadedFile.objects.for_team(self.team).filter(
            upload__dataset_id=item.dataset_id,
            outcome=UploadOutcome.CAPTION,
            item=None,
            stem=short_stem(name),
            code="caption_waiting",
            created_at__gte=timezone.now() - _WAITS,
        )
        waiting = [row for row in rows.order_by("-id") if is_same_picture(row.filename, name)]
        newest = [row for row in waiting if row.upload_id == waiting[0].upload_id]
        chosen = _agreeing([Loose(row.position, row.filename, row.caption) for row in newest], name)
        if not chosen:
            return ""
        rows.filter(pk__in=[row.pk for row in waiting]).update(
            item=item, code="caption_applied", message=explain("caption_applied")
        )
        return chosen[0].text


def locked_dataset_of(upload: Upload) -> Dataset:
    """Lock the dataset, so that a picture and its caption that come at the same time see each other."""
    rows = Dataset.objects.for_team(upload.team).select_for_update(no_key=True)
    dataset: Dataset | None = rows.filter(pk=upload.dataset_id).first()
    if dataset is None:
        raise ClaimLost(upload.uid)
    return dataset


def _newest_of_name(items: list[Item], name: str) -> Item | None:
    """Return the newest picture that `name` may mean, one in the same folder first."""
    meant = [item for item in items if is_same_picture(item.filename, name)]
    return max(meant, key=lambda item: (stem_of(item.filename) == stem_of(name), item.pk), default=None)


def _agreeing(captions: list[Loose], name: str) -> list[Loose]:
    """Return the captions of the picture called `name` if they say one thing; those of its own folder go first.

    Two folders of a table may both have a "1.png": which one a "1.png" without a folder is, nobody knows.
    """
    exact = [caption for caption in captions if stem_of(caption.name) == stem_of(name)]
    chosen = exact or captions
    return chosen if len({caption.text for caption in chosen}) == 1 else []


def _result(caption: Loose, item: Item | None) -> Result:
    code = "caption_waiting" if item is None else "caption_applied"
    return Result(
        position=caption.position,
        name=caption.name,
        outcome=UploadOutcome.CAPTION,
        code=code,
        message=explain(code),
        item=item,
        stem=short_stem(caption.name),
        caption=caption.text,
    )
