"""Short jobs of the projects app, sent through the outbox."""

from __future__ import annotations

from datetime import timedelta

from core.outbox import short_job
from projects.models import Upload
from projects.services.intake import give_up, ingest


def _give_up(upload_uid: str) -> None:
    if upload := _upload(upload_uid):
        give_up(upload)


# A large zip takes minutes. Whoever comes meanwhile finds its claim and leaves; whoever comes after a kill goes on.
@short_job(queue_name="media", lease=timedelta(seconds=30), time_limit=timedelta(hours=1), give_up=_give_up)
def ingest_upload(upload_uid: str) -> bool:
    """Look at the files of a complete upload."""
    upload = _upload(upload_uid)
    return upload is None or ingest(upload)


def _upload(uid: str) -> Upload | None:
    # The uid comes from the outbox, which was written when the upload was allowed.
    found: Upload | None = (
        Upload.unscoped.select_related("team", "dataset", "created_by").filter(uid=uid).first()
    )
    return found
