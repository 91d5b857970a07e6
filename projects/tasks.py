"""Short jobs of the projects app, sent through the outbox."""

from __future__ import annotations

import logging

import dramatiq

from core.models import OutboxMessage
from core.outbox import done, is_done
from projects.models import Upload
from projects.services.intake import give_up, ingest

log = logging.getLogger(__name__)

_ATTEMPTS = 5


@dramatiq.actor(queue_name="media", max_retries=1, min_backoff=1_000, time_limit=3_600_000)
def ingest_upload(outbox_id: int, upload_uid: str) -> None:
    """Look at the files of a complete upload; a second message for the same upload does nothing."""
    if is_done(outbox_id):
        return
    # The uid comes from the outbox, which was written when the upload was allowed.
    upload = Upload.unscoped.select_related("team", "dataset", "created_by").filter(uid=upload_uid).first()
    if upload is None:
        done(outbox_id)
        return
    try:
        is_finished = ingest(upload)
    except Exception:
        if not OutboxMessage.objects.filter(pk=outbox_id, attempts__gte=_ATTEMPTS).exists():
            raise
        log.exception("giving up %s", upload_uid)
        give_up(upload)
        is_finished = True
    if is_finished:
        done(outbox_id)
