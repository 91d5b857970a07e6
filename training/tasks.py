"""Messages of the training app: tickets for workers, and mails about how a training ended."""

from __future__ import annotations

import logging
from datetime import timedelta

import dramatiq
from django.db import transaction

from core.outbox import enqueue, short_job
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


def wake(job: TrainingJob) -> None:
    """Have somebody look at a job that waits: a worker, or for a simulated one whoever does short jobs."""
    if job.is_test:
        enqueue(simulate_training, job.uid)
    else:
        transaction.on_commit(send_ticket, robust=True)


@short_job(queue_name="default", lease=timedelta(minutes=1))
def simulate_training(job_uid: str) -> None:
    """Carry a test key's training out."""
    from training.simulated import run_simulated

    run_simulated(job_uid)


@short_job(queue_name="mail", most_failures=8)
def mail_outcome(job_uid: str) -> None:
    """Write to the person who started a training how it ended."""
    from training.services.outcome_mail import send_outcome

    job = (
        TrainingJob.unscoped.select_related(
            "team", "project", "created_by", "lora_version", "foundation_model"
        )
        .filter(uid=job_uid)
        .first()
    )
    if job is not None and not job.is_test:
        send_outcome(job)
