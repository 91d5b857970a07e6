"""Messages of the training app: tickets for workers, and mails about how a training ended."""

from __future__ import annotations

import logging

import dramatiq

from core.outbox import done, is_done
from training.models import TrainingJob

log = logging.getLogger(__name__)

TICKET_QUEUE = "gpu"


@dramatiq.actor(queue_name=TICKET_QUEUE, max_retries=0)
def gpu_ticket() -> None:
    """Wake a worker. It names no job: `manage.py gpu_worker` takes it off the queue and then claims by itself."""
    log.warning(
        "A ticket of queue %r came to a worker of short jobs; give that worker --queues.", TICKET_QUEUE
    )


def send_ticket() -> None:
    """Send one ticket. A lost one does no harm: idle workers look by themselves, and the clock sends more."""
    try:
        gpu_ticket.send()
    except Exception as error:
        log.warning("could not send a ticket: %s", error)


@dramatiq.actor(queue_name="mail", max_retries=8, min_backoff=5_000, max_backoff=600_000, time_limit=60_000)
def mail_outcome(outbox_id: int, job_uid: str) -> None:
    """Write to the person who started a training how it ended."""
    from training.services.outcome_mail import send_outcome

    if is_done(outbox_id):
        return
    job = (
        TrainingJob.unscoped.select_related(
            "team", "project", "created_by", "lora_version", "foundation_model"
        )
        .filter(uid=job_uid)
        .first()
    )
    if job is not None:
        send_outcome(job)
    done(outbox_id)
