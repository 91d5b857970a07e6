"""The outbox: short jobs that survive the loss of the broker.

`enqueue` writes a row in the caller's transaction and sends a message after the commit. The actor marks the row
done. `resend_lost` (run by `tick`) sends again what was not done in time, so actors must be idempotent.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from core.models import OutboxMessage

if TYPE_CHECKING:
    from dramatiq import Actor

log = logging.getLogger(__name__)

RESEND_AFTER = timedelta(seconds=30)
GIVE_UP_AFTER_ATTEMPTS = 20


def enqueue(actor: Actor[Any, Any], subject_uid: str) -> None:
    """Have `actor` called with (outbox id, subject uid) once the current transaction is committed."""
    row = OutboxMessage.objects.create(actor=actor.actor_name, subject_uid=subject_uid)
    transaction.on_commit(lambda: _send(row.pk), robust=True)


def done(outbox_id: int) -> None:
    """Mark the row of a finished short job."""
    OutboxMessage.objects.filter(pk=outbox_id, done_at=None).update(done_at=timezone.now())


def is_done(outbox_id: int) -> bool:
    """Tell whether the short job of this row was done already (a message can come twice)."""
    return OutboxMessage.objects.filter(pk=outbox_id).exclude(done_at=None).exists()


def _send(outbox_id: int) -> None:
    import dramatiq

    row = OutboxMessage.objects.get(pk=outbox_id)
    try:
        dramatiq.get_broker().get_actor(row.actor).send(row.pk, row.subject_uid)
    except Exception as error:
        # The broker is away: the row stays open and `tick` sends it again.
        log.warning("could not send %s: %s", row, error)
        OutboxMessage.objects.filter(pk=outbox_id).update(last_error=str(error)[:500])
        return
    OutboxMessage.objects.filter(pk=outbox_id).update(sent_at=timezone.now(), attempts=F("attempts") + 1)


def resend_lost() -> int:
    """Send again every open row that was not done in time; return how many."""
    late = timezone.now() - RESEND_AFTER
    open_rows = OutboxMessage.objects.filter(
        Q(sent_at__lt=late) | Q(sent_at=None, created_at__lt=late),
        done_at=None,
        attempts__lt=GIVE_UP_AFTER_ATTEMPTS,
    )
    ids = list(open_rows.order_by("id").values_list("pk", flat=True)[:500])
    for outbox_id in ids:
        _send(outbox_id)
    return len(ids)
