"""What people may ask of a training: cancel, stop and keep, pause, resume. In every state.

A job that waits is changed at once. A live job belongs to its worker: the wish is written down, and the worker
carries it out. A stronger wish replaces a weaker one, never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from accounts.services.audit import audit
from billing.entitlements import plan_of
from core.errors import Conflict, NotFound
from core.quotas import demand
from projects.visibility import seen_by
from training.models import TrainingJob
from training.services.announce import announce_cancel
from training.services.checkpoints import has_state
from training.services.express import place_in_line
from training.services.lifecycle import append_events, move
from training.services.metering import reserve, seconds_left
from training.states import LIVE, Desired, JobState

_STRENGTH = {
    "": 0,
    Desired.YIELD: 1,
    Desired.PREEMPT: 2,
    Desired.PAUSE: 3,
    Desired.STOP: 4,
    Desired.CANCEL: 5,
}


def cancel_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """End a training without a result. Canceling a canceled one changes nothing; other ends raise Conflict."""
    return _change(actor, job, "training.cancel", JobState.CANCELED, lambda row: _cancel(row, actor))


def stop_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """End a training early and keep what it learned; raise Conflict if there is nothing to keep yet.

    Short work keeps what is there when it is canceled: there is nothing to stop.
    """
    return _change(actor, job, "training.stop", JobState.STOPPED, _stop)


def pause_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """Take a training off its worker, or out of the queue, until it is resumed."""
    return _change(actor, job, "training.pause", JobState.PAUSED, _pause)


def resume_job(*, actor: Actor, job: TrainingJob) -> TrainingJob:
    """Put a paused training back into the queue; it goes on from its last checkpoint. Raise InsufficientCredits."""
    return _change(actor, job, "training.resume", JobState.QUEUED, _resume)


def _change(
    actor: Actor, job: TrainingJob, action: str, goal: JobState, carry_out: Callable[[TrainingJob], None]
) -> TrainingJob:
    """Lock the job and `carry_out` the wish, unless the job is at its `goal` already; raise Conflict if it ended."""
    require(actor, Can.TRAINING_EDIT)
    with transaction.atomic():
        row: TrainingJob | None = (
            seen_by(actor, TrainingJob.jobs.for_team(actor.team))
            .select_related("team")
            .select_for_update(no_key=True, of=("self",))
            .filter(pk=job.pk)
            .first()
        )
        if row is None:
            raise NotFound
        if row.state == goal:
            return row
        if row.is_finished:
            raise Conflict("finished", _("This training is finished already."), state=row.state)
        carry_out(row)
        audit(actor, action, row)
        return row


def _cancel(job: TrainingJob, actor: Actor) -> None:
    is_news = job.desired != Desired.CANCEL
    if job.state in LIVE:
        _wish(job, Desired.CANCEL)
    else:
        move(job, JobState.CANCELED)
    if is_news:  # after the move, which locks the team: lists of notifications are locked last everywhere
        announce_cancel(job, actor)


def _stop(job: TrainingJob) -> None:
    if job.is_short:
        raise Conflict("nothing_to_stop", _("Cancel it instead: what is drawn is kept."), state=job.state)
    is_live = job.state in LIVE
    if not (job.step if is_live else has_state(job)):
        raise Conflict(
            "nothing_learned",
            _("This training has not learned anything yet. Cancel it instead."),
            state=job.state,
        )
    if is_live:
        _wish(job, Desired.STOP)
        return
    # The next free worker loads the last checkpoint and makes the file of it.
    job.desired = Desired.STOP
    job.save(update_fields=["desired"])
    if job.state == JobState.PAUSED:
        _requeue(job)  # writing the file takes seconds: what was learned is kept without a reserve
    else:
        _tell(job)


def _pause(job: TrainingJob) -> None:
    if job.state == JobState.FINALIZING:
        raise Conflict("finishing", _("This training is being finished. Nothing is left to pause."))
    if job.state not in LIVE:
        move(job, JobState.PAUSED)
        return
    if _STRENGTH[job.desired] > _STRENGTH[Desired.PAUSE]:
        raise Conflict("ending", _("This training is being ended already."), state=job.state)
    _wish(job, Desired.PAUSE)


def _resume(job: TrainingJob) -> None:
    if job.state in LIVE and job.desired == Desired.PAUSE:
        raise Conflict("pausing", _("This training is being paused. Resume it when it rests."))
    if job.state != JobState.PAUSED:
        raise Conflict("not_paused", _("Only a paused training can be resumed."), state=job.state)
    if not job.is_test:
        Team.objects.select_for_update(no_key=True).get(pk=job.team_id)
        demand(job.team, "queued_short_work" if job.is_short else "queued_trainings")
    reserve(job, seconds_left(job))
    _requeue(job)


def wish_room(job: TrainingJob, *, for_short: bool = False) -> None:
    """Have a locked, running job that nobody wants anything of save and wait again, for another one's sake."""
    _wish(job, Desired.YIELD if for_short else Desired.PREEMPT)


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
    from training.tasks import wake

    job.queued_at = timezone.now()
    is_express = job.is_express and plan_of(job.team).is_metered
    job.line_at = place_in_line(job.queued_at, is_express=is_express)
    job.held_since, job.held_node = None, ""
    job.run_after = None
    job.rest_reason = job.waits_for = ""
    job.place = job.expected_start = job.latest_start = None
    changed = [
        "queued_at",
        "line_at",
        "held_since",
        "held_node",
        "run_after",
        "rest_reason",
        "place",
        "waits_for",
        "expected_start",
        "latest_start",
    ]
    move(job, JobState.QUEUED, save=changed)
    wake(job)
