"""The outbox: short jobs that survive the loss of the broker, of the worker and of the network.

    @short_job(queue_name="mail", most_failures=8)
    def mail_outcome(job_uid: str) -> None: ...

    enqueue(mail_outcome, job.uid)        # inside the transaction that causes it

`enqueue` writes a row and sends a message after the commit. Whoever gets the message takes the row for a while, does
the job and marks it done. `send_due` (run by `tick`) sends again what is neither done nor taken: a message may be lost
or come twice, a job may begin twice after a kill, so jobs must bear it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import dramatiq
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from core.models import OutboxMessage
from core.periodic import every

log = logging.getLogger(__name__)

FIRST_AGAIN = timedelta(seconds=30)
LAST_AGAIN = timedelta(minutes=10)
_SENT_AT_ONCE = 500
_DONE_KEPT_FOR = timedelta(days=7)

# Given the subject's uid; False says "not now": another process is at it, or it must wait.
Job = Callable[[str], bool | None]


def short_job(
    *,
    queue_name: str,
    most_failures: int = 5,
    lease: timedelta = timedelta(minutes=2),
    time_limit: timedelta = timedelta(minutes=2),
    give_up: Callable[[str], None] | None = None,
) -> Callable[[Job], dramatiq.Actor[Any, Any]]:
    """Make an actor of a job that is sent through the outbox.

    A failure is tried again after 5 s, then four times as long each time, at most ten minutes; after
    `most_failures` of them `give_up` is called and the row is closed. A killed job is taken again after `lease`.
    """

    def decorate(job: Job) -> dramatiq.Actor[Any, Any]:
        def actor(outbox_id: int, subject_uid: str) -> None:
            _work_off(outbox_id, job, most_failures, lease, give_up)

        register = dramatiq.actor(
            actor_name=job.__name__,
            queue_name=queue_name,
            max_retries=0,  # the outbox tries again, and remembers how often
            time_limit=int(time_limit.total_seconds() * 1000),
        )
        return register(actor)

    return decorate


def load_short_jobs() -> None:
    """Import every app's `tasks`: who sends what another process wrote down must know each job by its name."""
    autodiscover_modules("tasks")


def enqueue(actor: dramatiq.Actor[Any, Any], subject_uid: str) -> None:
    """Have the short job `actor` done for `subject_uid` once the current transaction is committed."""
    row = OutboxMessage.objects.create(
        actor=actor.actor_name, subject_uid=subject_uid, next_try_at=timezone.now() + FIRST_AGAIN
    )
    transaction.on_commit(lambda: _send(row), robust=True)


@every(5)
def send_due() -> int:
    """Send every row again that is neither done nor taken; return how many."""
    now = timezone.now()
    free = OutboxMessage.objects.filter(_is_free(now), done_at=None)
    rows = list(free.filter(next_try_at__lte=now).order_by("next_try_at")[:_SENT_AT_ONCE])
    for row in rows:
        # A long queue must not grow by the same messages again and again. Who took it meanwhile said when it is due.
        pause = min(LAST_AGAIN, FIRST_AGAIN * 2 ** min(row.sends, 10))
        free.filter(pk=row.pk).update(next_try_at=now + pause, sends=F("sends") + 1)
        _send(row)
    return len(rows)


@every(3600)
def forget_done() -> None:
    """Delete the rows of jobs that were done a week ago."""
    OutboxMessage.objects.filter(done_at__lt=timezone.now() - _DONE_KEPT_FOR).delete()


def _is_free(now: datetime) -> Q:
    return Q(taken_until=None) | Q(taken_until__lt=now)


def _send(row: OutboxMessage) -> None:
    try:
        dramatiq.get_broker().get_actor(row.actor).send(row.pk, row.subject_uid)
    except ActorNotFound:
        log.error("%s cannot be sent: this process knows no such job, see load_short_jobs", row)
    except Exception as error:
        log.warning("%s waits, the broker does not answer: %s", row, error)


def _work_off(
    outbox_id: int,
    job: Job,
    most_failures: int,
    lease: timedelta,
    give_up: Callable[[str], None] | None,
) -> None:
    now = timezone.now()
    rows = OutboxMessage.objects.filter(pk=outbox_id, done_at=None)
    if not rows.filter(_is_free(now)).update(taken_until=now + lease, next_try_at=now + lease):
        return
    row = OutboxMessage.objects.get(pk=outbox_id)
    try:
        is_done = job(row.subject_uid) is not False
        error = ""
    except Shutdown:  # nobody's fault: the next worker takes it at once
        rows.update(taken_until=None, next_try_at=timezone.now())
        raise
    except (Exception, TimeLimitExceeded) as failure:
        log.warning("%s failed %d times", row, row.failures + 1, exc_info=True)
        is_done, error = False, f"{type(failure).__name__}: {failure}"[:500]
    now = timezone.now()
    if error and row.failures + 1 >= most_failures:
        if give_up is not None:
            give_up(row.subject_uid)
        is_done = True
    if is_done:
        rows.update(done_at=now, last_error=error, failures=row.failures + bool(error))
    else:
        pause = timedelta(seconds=5) * 4 ** min(row.failures, 5) if error else FIRST_AGAIN
        rows.update(
            taken_until=None,
            next_try_at=now + min(pause, LAST_AGAIN),
            last_error=error,
            failures=row.failures + bool(error),
        )
