"""Freeze a dataset into a version that never changes: the only thing a training can use."""

from __future__ import annotations

import hashlib
import json

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.roles import Can
from accounts.services.audit import audit
from core.errors import DomainError, NotFound
from notifications.events import EventType, Subject
from notifications.services.webhooks import emit
from projects.models import Dataset, DatasetVersion, DatasetVersionItem, Item
from projects.services.projects import refuse_archived
from projects.visibility import seen_by


def manifest_sha256(entries: list[tuple[str, str]]) -> str:
    """Return the sha256 of a manifest: one line of JSON `[sha256, caption]` per picture, sorted.

    File names are not part of it: the same pictures with the same captions train the same LoRA.
    """
    digest = hashlib.sha256()
    for sha256, caption in sorted(entries):
        digest.update(json.dumps([sha256, caption], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def freeze_dataset(*, actor: Actor, uid: str) -> DatasetVersion:
    """Freeze the included pictures and captions of a dataset; an unchanged set gives its old version back.

    Raises NotFound, Conflict (`project_archived`) and DomainError (`dataset_empty`).
    """
    require(actor, Can.DATASET_EDIT)
    with transaction.atomic():
        # Nobody adds or freezes at the same moment; the pictures are read in one query.
        rows = seen_by(actor, Dataset.objects.for_team(actor.team)).select_for_update(of=("self",))
        dataset = rows.select_related("project").filter(uid=uid).first()
        if dataset is None:
            raise NotFound
        refuse_archived(dataset.project)
        items = list(
            Item.objects.for_team(actor.team)
            .filter(dataset=dataset, excluded=False)
            .select_related("blob")
            .order_by("blob__sha256")
        )
        if not items:
            raise DomainError(
                "dataset_empty", _("There is no picture to train with yet. Add pictures, or include some.")
            )
        manifest = manifest_sha256([(item.blob.sha256, item.caption) for item in items])
        versions = DatasetVersion.objects.for_team(actor.team).filter(dataset=dataset)
        same: DatasetVersion | None = versions.filter(manifest_sha256=manifest).first()
        if same is not None:
            return same
        last = versions.order_by("-number").values_list("number", flat=True).first()
        version: DatasetVersion = DatasetVersion.objects.create(
            team=actor.team,
            dataset=dataset,
            number=(last or 0) + 1,
            item_count=len(items),
            manifest_sha256=manifest,
            created_by=actor.user,
        )
        DatasetVersionItem.objects.bulk_create(
            (
                DatasetVersionItem(
                    team=actor.team,
                    version=version,
                    blob_id=item.blob_id,
                    position=position,
                    filename=item.filename,
                    caption=item.caption,
                )
                for position, item in enumerate(items)
            ),
            batch_size=2000,
        )
        audit(actor, "dataset.frozen", version, pictures=len(items), manifest=manifest)
        subject = Subject(
            uid=version.uid,
            kind="dataset_version",
            name=str(version),
            path=f"/t/{actor.team.slug}/datasets/{dataset.uid}/",
            more={"dataset": dataset.uid, "number": version.number, "pictures": len(items)},
        )
        emit(actor.team, EventType.DATASET_VERSION_READY, subject)
        return version
