"""What people may ask of a training: cancel, stop and keep, pause, resume. In every state.

A job that waits is changed at once. A live job belongs to its worker: the wish is written down, and the worker
carries it out. A stronger wish replaces a weaker one, never the other way round.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.roles import Can
from accounts.services.audit import audit
from core.errors import Conflict, NotFound
from training.models import TrainingJob
from training.services.checkpoints import has_state
from training.services.lifecycle import append_events, move
from training.states import LIVE, Desired, JobState

_STRENGTH = {"": 0, Desired.PAUSE: 1, Desired.STOP: 2, Desired.CANCEL: 3}


def cancel_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """End a training without a result. Canceling a canceled one changes nothing; other ends raise Conflict."""
    with transaction.atomic():
        row = _lock(actor, job)
        if row.state == JobState.CANCELED:
            return row
        if row.is_finished:
            raise _finished(row)
        if row.state in LIVE:
            _wish(row, Desired.CANCEL)
        else:
            move(row, JobState.CANCELED)
        audit(actor, "training.cancel", row)
        return row


def stop_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """End a training early and keep what it learned; raise Conflict if there is nothing to keep yet."""
    with transaction.atomic():
        row = _lock(actor, job)
        if row.state == JobState.STOPPED:
            return row
        if row.is_finished:
            raise _finished(row)
        if row.state in LIVE:
            if not row.step:
                raise _nothing_yet(row)
            _wish(row, Desired.STOP)
        else:
            if not has_state(row):
                raise _nothing_yet(row)
            # The next free worker loads the last checkpoint and makes the file of it.
            row.desired = Desired.STOP
            row.save(update_fields=["desired"])
            if row.state == JobState.PAUSED:
                _requeue(row)
            else:
                _tell(row)
        audit(actor, "training.stop", row)
        return row


def pause_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """Take a training off its worker, or out of the queue, until it is resumed."""
    with transaction.atomic():
        row = _lock(actor, job)
        if row.state == JobState.PAUSED:
            return row
        if row.is_finished:
            raise _finished(row)
        if row.state == JobState.FINALIZING:
            raise Conflict("finishing", _("This training is being finished. Nothing is left to pause."))
        if row.state in LIVE:
            if _STRENGTH[row.desired] > _STRENGTH[Desired.PAUSE]:
                raise Conflict("ending", _("This training is being ended already."), state=row.state)
            _wish(row, Desired.PAUSE)
        else:
            move(row, JobState.PAUSED)
        audit(actor, "training.pause", row)
        return row


def resume_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """Put a paused training back into the queue; it goes on from its last checkpoint."""
    with transaction.atomic():
        row = _lock(actor, job)
        if row.state == JobState.QUEUED:
            return row
        if row.state in LIVE and row.desired == Desired.PAUSE:
            raise Conflict("pausing", _("This training is being paused. Resume it when it rests."))
        if row.state != JobState.PAUSED:
            raise Conflict("not_paused", _("Only a paused training can be resumed."), state=row.state)
        _requeue(row)
        audit(actor, "training.resume", row)
        return row


def _lock(actor: Actor, job: TrainingJob) -> TrainingJob:
    require(actor, Can.TRAINING_EDIT)
    row: TrainingJob | None = (
        TrainingJob.objects.for_team(actor.team)
        .select_related("team")
        .select_for_update(no_key=True, of=("self",))
        .filter(pk=job.pk)
        .first()
    )
    if row is None:
        raise NotFound
    return row


def _wish(job: TrainingJob, desired: Desired) -> None:
    if _STRENGTH[job.desired] >= _STRENGTH[desired]:
        return
    job.desired = desired
    job.save(update_fields=["desired"])
    _tell(job)


def _tell(job: TrainingJob) -> None:
    data = {"state": job.state, "desired": job.desired}
    append_events(job, [("status", timezone.now(), data)])
    job.save(update_fields=["last_seq"])


def _requeue(job: TrainingJob) -> None:
    from training.tasks import send_ticket

    job.queued_at = timezone.now()
    job.run_after = None
    move(job, JobState.QUEUED, save=["queued_at", "run_after"])
    transaction.on_commit(send_ticket, robust=True)


def _finished(job: TrainingJob) -> Conflict:
    return Conflict("finished", _("This training is finished already."), state=job.state)


def _nothing_yet(job: TrainingJob) -> Conflict:
    return Conflict(
        "nothing_learned",
        _("This training has not learned anything yet. Cancel it instead."),
        state=job.state,
    )
