"""Recurring duties of the projects app: what the clock does for all teams alike."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Exists, ManyToOneRel, OuterRef, QuerySet
from django.utils import timezone

from accounts.services.retention import note_forgotten
from core.api.idempotency import KEPT_FOR
from core.models import IdempotencyRecord
from core.periodic import every
from core.tenancy.models import TenantModel
from projects.models import Blob, Upload, UploadState
from projects.services.blobs import delete_unused
from projects.services.intake import give_up
from projects.services.uploads import delete_expired

_AT_ONCE = 200
UNUSED_FOR = timedelta(days=1)


@every(300)
def delete_expired_uploads() -> int:
    """Delete uploads that were never finished, a day after their last byte; return how many."""
    expired = Upload.unscoped.filter(state=UploadState.RECEIVING, expires_at__lt=timezone.now())
    deleted = 0
    for upload in expired.select_related("team")[:_AT_ONCE]:
        if delete_expired(upload):
            note_forgotten(upload.team, "uploads", count=1, size=upload.offset)
            deleted += 1
    return deleted


@every(300)
def end_stuck_uploads() -> None:
    """End uploads whose work never ended (a decoder may kill its process each time), a day after their last byte."""
    stuck = Upload.unscoped.filter(state=UploadState.PROCESSING, expires_at__lt=timezone.now())
    for upload in stuck.select_related("team", "created_by")[:_AT_ONCE]:
        give_up(upload)


@every(900)
def delete_unused_blobs() -> int:
    """Delete stored bytes that nothing has used for a day: those of deleted pictures; return how many."""
    unused = Blob.unscoped.filter(created_at__lt=timezone.now() - UNUSED_FOR)
    for rows in _links_to_blobs():
        unused = unused.exclude(Exists(rows))
    deleted = 0
    for blob in unused.select_related("team").order_by("id")[:_AT_ONCE]:
        if delete_unused(blob):
            note_forgotten(blob.team, "bytes", count=1, size=blob.size)
            deleted += 1
    return deleted


@every(3600)
def forget_idempotency_keys() -> None:
    """Delete kept answers of the API that are older than a day."""
    IdempotencyRecord.unscoped.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()


def _links_to_blobs() -> list[QuerySet[Any]]:
    """Return the rows of every table that link to the blob of an outer query, those of higher layers too."""
    links = [link for link in Blob._meta.get_fields(include_hidden=True) if isinstance(link, ManyToOneRel)]
    querysets = []
    for link in links:
        model: Any = link.related_model
        if issubclass(model, TenantModel):
            querysets.append(model.unscoped.filter(**{link.field.name: OuterRef("pk")}))
    return querysets
