"""Move jobs between states: one locked row, one transition, one status event, one transaction.

Every function here expects the job's row to be locked (`hold`, or the queue's own locking) inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Value
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone

from billing.models import UsageKind
from billing.services.ledger import release
from billing.services.usage import record_usage
from core.outbox import enqueue
from core.realtime.publish import publish
from training.models import Attempt, JobEvent, TrainingJob
from training.queue.gang import give_back
from training.queue.usage import charge
from training.services.announce import announce_preempted, announce_state
from training.services.checkpoints import forget_states, saved_at
from training.states import LIVE, Desired, JobState, is_allowed, is_terminal

if TYPE_CHECKING:
    from training.queue.lease import Lease

# On the way to another state: nobody outside is told of a state in between.
INTERRUPTED = "interrupted"
# How long a crashed job waits before its second and third attempt.
BACK_OFF = (timedelta(0), timedelta(seconds=30), timedelta(seconds=120))


class LeaseLost(Exception):
    """Say that the job belongs to another attempt now: kill the engine, write nothing."""


class ForbiddenMove(Exception):
    """Say that a job was asked to make a move that the states do not know."""


@dataclass(frozen=True, slots=True)
class CrashReport:
    """Say why an attempt ended badly; `log` holds the engine's last lines."""

    code: str
    message: str
    category: str = "platform"
    hint: str = ""
    patch: Mapping[str, Any] | None = None
    log: Sequence[str] = field(default_factory=tuple)


def hold(lease: Lease) -> TrainingJob:
    """Lock and return the job of `lease`; raise LeaseLost if it is no longer this attempt's."""
    job: TrainingJob | None = (
        TrainingJob.jobs.for_team(lease.team)
        .select_related("team")
        .select_for_update(no_key=True, of=("self",))
        .filter(pk=lease.job_id, fence=lease.fence, state__in=LIVE)
        .first()
    )
    if job is None:
        raise LeaseLost(f"{lease.job_uid} #{lease.fence}")
    return job


def append_events(job: TrainingJob, rows: Iterable[tuple[str, datetime, Mapping[str, Any]]]) -> None:
    """Append (type, time, data) rows to the job's events and tell the browsers after the commit.

    Raises `job.last_seq`; the caller saves it. The lock on the row is what makes the numbers dense.
    """
    events = []
    for kind, at, data in rows:
        job.last_seq += 1
        events.append(
            JobEvent(
                team=job.team, job=job, seq=job.last_seq, fence=job.fence, type=kind, at=at, data=dict(data)
            )
        )
    if not events:
        return
    JobEvent.objects.bulk_create(events)
    items = [event_item(event) for event in events]
    topic = f"training:{job.uid}"
    transaction.on_commit(lambda: publish(topic, items), robust=True)


def event_item(event: JobEvent) -> dict[str, Any]:
    """Return an event as the API and the browser get it."""
    at = event.at.isoformat().replace("+00:00", "Z")
    return {"seq": event.seq, "type": event.type, "at": at, "data": event.data}


def move(job: TrainingJob, target: JobState, *, save: Sequence[str] = (), **told: Any) -> None:
    """Move a locked job to `target`, save it with the fields named in `save`, and append its status event.

    `told` goes into the event beside state and wish. Raise ForbiddenMove for a move the states do not know.
    """
    if not is_allowed(JobState(job.state), target):
        raise ForbiddenMove(f"{job.uid}: {job.state} -> {target}")
    now = timezone.now()
    job.state = target
    job.finished_at = now if is_terminal(target) else None
    if target in LIVE:
        if job.lease_until is None:
            job.lease_until = _lease_end()
    else:
        job.lease_until = None
        job.worker = None
        # "Stop and keep" of a job that lost its worker is carried out by the next one.
        if target != JobState.QUEUED or job.desired != Desired.STOP:
            job.desired = ""
    append_events(job, [("status", now, {"state": target.value, "desired": job.desired, **told})])
    job.save(
        update_fields=["state", "finished_at", "lease_until", "worker", "desired", "last_seq", *save],
    )
    if target in LIVE:
        job.refresh_from_db(fields=["lease_until"])
    else:
        give_back(job)
    if is_terminal(target):
        forget_states(job)
    if is_terminal(target) or target == JobState.PAUSED:
        release(job.team, job_uid=job.uid)
    if told.get("reason") != INTERRUPTED:
        announce_state(job)


def _lease_end() -> CombinedExpression:
    return Now() + Value(timedelta(seconds=settings.LEASE_SECONDS))


def end_attempt(job: TrainingJob, outcome: str, *, useful: bool, kept_until: datetime | None = None) -> None:
    """Close the attempt of the job's present fence and note its seconds for billing, once.

    Of one that was not `useful` to its end, what was done up to `kept_until` was.
    """
    now = timezone.now()
    attempt = Attempt.objects.for_team(job.team).filter(job=job, fence=job.fence, ended_at=None).first()
    if attempt is None:
        return
    attempt.ended_at, attempt.outcome, attempt.last_step = now, outcome, job.step
    attempt.save(update_fields=["ended_at", "outcome", "last_step"])
    if job.is_test:
        return
    seconds = (now - attempt.started_at).total_seconds()
    kept = 0.0
    if not useful and kept_until is not None:
        kept = min(seconds, max(0.0, (kept_until - attempt.started_at).total_seconds()))
    record_usage(
        team=job.team,
        job_uid=job.uid,
        attempt=job.fence,
        # The seconds of all its GPUs; its rate counts them too.
        seconds=(kept or seconds) * job.gpus,
        useful=useful or kept > 0,
        seconds_lost=(seconds - kept) * job.gpus if kept else 0.0,
        kind=UsageKind(job.kind),
        rate=job.rate / job.gpus,
        user=job.created_by,
        project_uid=job.project.uid,
        project_name=job.project.name,
    )
    # Last: a claim for the same team waits for this row.
    charge(job.team, seconds * job.gpus - attempt.charged_seconds)


def cancel_job_now(job: TrainingJob) -> None:
    """End a locked job as canceled, whatever it did."""
    end_attempt(job, "canceled", useful=True)
    move(job, JobState.CANCELED)


def pause_job_now(job: TrainingJob) -> None:
    """Put a locked, live job to rest; it resumes from its last checkpoint."""
    end_attempt(job, "paused", useful=True)
    if not is_allowed(JobState(job.state), JobState.PAUSED):
        # Its last event would be the state in between; nobody else can see the job in it.
        move(job, JobState.QUEUED, reason=INTERRUPTED)
    move(job, JobState.PAUSED)


def requeue_job(job: TrainingJob, reason: str) -> None:
    """Put a locked, live job back at its old place in the queue: its worker goes away, nothing went wrong."""
    if _ended_as_wished(job):
        return
    end_attempt(job, "drained", useful=True)
    move(job, JobState.QUEUED, reason=reason)
    _wake_worker(job)


def preempt_job_now(job: TrainingJob, *, has_saved: bool) -> None:
    """Put a locked, live job back at its old place in the queue: it made room for another one.

    If it could not save in time, what it did since its last checkpoint is lost, and free.
    """
    if _ended_as_wished(job):
        return
    # It lets short work pass for a minute: nothing to write to anybody about.
    outcome = "yielded" if job.desired == Desired.YIELD else "preempted"
    end_attempt(job, outcome, useful=has_saved, kept_until=saved_at(job))
    move(job, JobState.QUEUED, reason=outcome)
    if outcome == "preempted":
        announce_preempted(job)
    _wake_worker(job)


def _ended_as_wished(job: TrainingJob) -> bool:
    """Cancel or rest a job about which somebody said so a moment ago; tell whether that was the case."""
    if job.desired == Desired.CANCEL:
        cancel_job_now(job)
        return True
    if job.desired == Desired.PAUSE:
        pause_job_now(job)
        return True
    return False


def crash_job(job: TrainingJob, report: CrashReport) -> None:
    """Record that a locked, live job lost its attempt: back to the queue, or failed after too many crashes."""
    job.crashes += 1
    job.save(update_fields=["crashes"])
    if job.desired == Desired.CANCEL:
        cancel_job_now(job)
        return
    end_attempt(job, "crashed", useful=False)
    append_events(
        job,
        [
            (
                "warning",
                timezone.now(),
                {
                    "code": report.code,
                    "message": report.message,
                    "hint": report.hint or None,
                    "patch": None,
                    "crashes": job.crashes,
                    "log": list(report.log),
                },
            )
        ],
    )
    if job.crashes >= settings.MAX_CRASHES:
        fail_job(job, report)
        return
    wait = BACK_OFF[min(job.crashes - 1, len(BACK_OFF) - 1)]
    paused = job.desired == Desired.PAUSE
    job.run_after = timezone.now() + wait if wait else None
    job.eta_seconds = job.steps_per_second = None
    move(
        job,
        JobState.QUEUED,
        save=["run_after", "eta_seconds", "steps_per_second"],
        reason=report.code,
        crashes=job.crashes,
        wait_seconds=int(wait.total_seconds()),
    )
    if paused:
        move(job, JobState.PAUSED)
    elif not wait or job.is_test:
        _wake_worker(job)


def fail_job(job: TrainingJob, report: CrashReport) -> None:
    """End a locked, live job as failed, with cause and advice, and write to its owner."""
    from training.tasks import mail_outcome

    end_attempt(job, "failed", useful=report.category != "platform")
    job.error_code = report.code[:60]
    job.error_category = report.category[:12]
    job.error_message = report.message
    job.error_hint = report.hint
    job.error_patch = dict(report.patch) if report.patch else None
    job.eta_seconds = None
    append_events(
        job,
        [
            (
                "error",
                timezone.now(),
                {
                    "code": report.code,
                    "category": report.category,
                    "message": report.message,
                    "hint": report.hint or None,
                    "patch": job.error_patch,
                    "log": list(report.log),
                },
            )
        ],
    )
    move(
        job,
        JobState.FAILED,
        save=[
            "error_code",
            "error_category",
            "error_message",
            "error_hint",
            "error_patch",
            "eta_seconds",
        ],
    )
    if not job.is_short:
        enqueue(mail_outcome, job.uid)


def _wake_worker(job: TrainingJob) -> None:
    from training.tasks import wake

    wake(job)
