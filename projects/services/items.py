"""Caption, exclude and delete the pictures of a dataset, one by one or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, models, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.actor import Actor, require
from accounts.roles import Can
from accounts.services.audit import audit
from core.errors import DomainError, NotFound
from projects.archive import clean_caption
from projects.models import Item
from projects.reasons import Refusal
from projects.services.datasets import locked_dataset
from projects.visibility import seen_by


class BulkAction(models.TextChoices):
    """Name what can be done to many pictures at once."""

    SET = "set", gettext_lazy("Set caption")
    PREPEND = "prepend", gettext_lazy("Add in front")
    APPEND = "append", gettext_lazy("Add at the end")
    REPLACE = "replace", gettext_lazy("Find and replace")
    REMOVE = "remove", gettext_lazy("Remove text")
    EXCLUDE = "exclude", gettext_lazy("Exclude")
    INCLUDE = "include", gettext_lazy("Include")
    DELETE = "delete", gettext_lazy("Delete")


_NEEDS_TEXT = {BulkAction.PREPEND, BulkAction.APPEND, BulkAction.REPLACE, BulkAction.REMOVE}


@dataclass(frozen=True, slots=True)
class Bulk:
    """Describe one change of many pictures: `uids`, or all of the dataset when it is None."""

    action: BulkAction
    uids: Sequence[str] | None
    text: str = ""
    replacement: str = ""


def edit_item(*, actor: Actor, uid: str, caption: str | None = None, excluded: bool | None = None) -> Item:
    """Change a picture's caption or whether it is trained with; what is None stays."""
    require(actor, Can.DATASET_EDIT)
    with transaction.atomic():
        item: Item | None = (
            seen_by(actor, Item.objects.for_team(actor.team), "dataset__project")
            .select_for_update(of=("self",))
            .select_related("blob", "dataset")
            .filter(uid=uid)
            .first()
        )
        if item is None:
            raise NotFound
        before = {"caption": item.caption, "excluded": item.excluded}
        if caption is not None:
            item.caption = checked_caption(caption)
        if excluded is not None:
            item.excluded = excluded
        after = {"caption": item.caption, "excluded": item.excluded}
        if after != before:
            item.save(update_fields=["caption", "excluded"])
            audit(actor, "item.changed", item, before=before, after=after)
    return item


def delete_item(*, actor: Actor, uid: str) -> None:
    """Take a picture out of its dataset; frozen versions keep it."""
    require(actor, Can.DATASET_EDIT)
    with transaction.atomic():
        items = seen_by(actor, Item.objects.for_team(actor.team), "dataset__project")
        item = items.select_related("dataset").filter(uid=uid).first()
        if item is None:
            raise NotFound
        audit(actor, "item.deleted", item, dataset=item.dataset.uid)
        item.delete()


def change_items(*, actor: Actor, dataset_uid: str, bulk: Bulk) -> int:
    """Do `bulk` to the pictures of a dataset and return how many changed; raise what `change_each` raises."""
    return len(change_each(actor=actor, dataset_uid=dataset_uid, bulk=bulk)[0])


def change_each(*, actor: Actor, dataset_uid: str, bulk: Bulk) -> tuple[set[str], set[str]]:
    """Do `bulk` to the pictures of a dataset and return the uids that changed, and those that were found.

    Raises NotFound, and DomainError (`text_missing`, `nothing_selected`, `caption_too_long`); then nothing changes.
    """
    require(actor, Can.DATASET_EDIT)
    if bulk.action in _NEEDS_TEXT and not bulk.text.strip():
        raise DomainError("text_missing", _("Type the text first."), pointer="/text")
    if bulk.uids is not None and not bulk.uids:
        raise DomainError("nothing_selected", _("Select pictures first."), pointer="/items")
    with transaction.atomic():
        dataset = locked_dataset(actor, dataset_uid)
        items = Item.objects.for_team(actor.team).filter(dataset=dataset)
        if bulk.uids is not None:
            items = items.filter(uid__in=list(bulk.uids))
        found = set(items.values_list("uid", flat=True))
        changed = _apply(actor, items, bulk)
        if changed:
            audit(actor, f"items.{bulk.action}", dataset, count=len(changed))
    return changed, found


def checked_caption(text: str) -> str:
    """Return a caption on one line; raise DomainError (`caption_too_long`)."""
    try:
        return clean_caption(text)
    except Refusal as refusal:
        raise DomainError(refusal.code, refusal.message, pointer="/caption") from refusal


def _apply(actor: Actor, items: models.QuerySet[Item], bulk: Bulk) -> set[str]:
    """Carry `bulk` out and return the uids of the pictures that changed."""
    match bulk.action:
        case BulkAction.DELETE:
            gone = set(items.values_list("uid", flat=True))
            items.delete()
            return gone
        case BulkAction.EXCLUDE | BulkAction.INCLUDE:
            wanted = bulk.action is BulkAction.EXCLUDE
            others = items.filter(excluded=not wanted)
            turned = set(others.values_list("uid", flat=True))
            others.update(excluded=wanted)
            return turned
    changed = []
    for item in items.select_for_update().only("id", "uid", "team_id", "caption").order_by("id"):
        caption = checked_caption(_new_caption(item.caption, bulk))
        if caption != item.caption:
            item.caption = caption
            changed.append(item)
    write_captions(changed)
    return {item.uid for item in changed}


def write_captions(items: Sequence[Item]) -> None:
    """Store the captions of `items` in one statement: 10 000 in half a second, where bulk_update takes eight."""
    if not items:
        return
    table = connection.ops.quote_name(Item._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET caption = given.caption "  # noqa: S608 - the name is the model's own
            "FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS given (id, team_id, caption) "
            f"WHERE {table}.id = given.id AND {table}.team_id = given.team_id",
            [
                [item.pk for item in items],
                [item.team_id for item in items],
                [item.caption for item in items],
            ],
        )


def _new_caption(caption: str, bulk: Bulk) -> str:
    text = bulk.text.strip()
    match bulk.action:
        case BulkAction.SET:
            return text
        case BulkAction.PREPEND:
            return f"{text}, {caption}" if caption else text
        case BulkAction.APPEND:
            return f"{caption}, {text}" if caption else text
        case BulkAction.REPLACE:
            return caption.replace(bulk.text, bulk.replacement)
    return _without(caption, text)


def _without(caption: str, text: str) -> str:
    """Take `text` out: as a tag between commas if it is one, else wherever it stands."""
    tags = [tag.strip() for tag in caption.split(",")]
    if text in tags:
        return ", ".join(tag for tag in tags if tag != text)
    return caption.replace(text, "")
