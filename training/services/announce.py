"""Say outside what a training does: to the team's webhooks and to the person who started it."""

from __future__ import annotations

from accounts.actor import Actor
from notifications.events import EventType, Subject
from notifications.kinds import Kind
from notifications.services.notify import tell
from notifications.services.webhooks import emit
from training.models import Checkpoint, TrainingJob
from training.states import JobState

_EVENTS = {
    JobState.QUEUED: EventType.TRAINING_QUEUED,
    JobState.STARTING: EventType.TRAINING_STARTED,
    JobState.PAUSED: EventType.TRAINING_PAUSED,
    JobState.SUCCEEDED: EventType.TRAINING_SUCCEEDED,
    JobState.FAILED: EventType.TRAINING_FAILED,
    JobState.CANCELED: EventType.TRAINING_CANCELED,
    JobState.STOPPED: EventType.TRAINING_STOPPED,
}
OUTCOMES = {
    JobState.SUCCEEDED: Kind.TRAINING_DONE,
    JobState.STOPPED: Kind.TRAINING_DONE,
    JobState.FAILED: Kind.TRAINING_FAILED,
}


def announce_state(job: TrainingJob) -> None:
    """Tell the state that a training has now, where somebody may want to know; call inside its transaction."""
    if job.is_short:  # who asked for it is looking at its page
        return
    state = JobState(job.state)
    if kind := _EVENTS.get(state):
        emit(job.team, kind, _subject(job))
    if (outcome := OUTCOMES.get(state)) and job.created_by:
        tell(team=job.team, kind=outcome, people=[job.created_by], subject=_subject(job))


def announce_rest(job: TrainingJob) -> None:
    """Tell the person who started a training that it rests because its GPU time is used up."""
    if not job.is_short and job.created_by:
        tell(team=job.team, kind=Kind.TRAINING_RESTS, people=[job.created_by], subject=_subject(job))


def announce_preempted(job: TrainingJob) -> None:
    """Tell the webhooks and the person who started it that a training made room and goes on when it is its turn."""
    emit(job.team, EventType.TRAINING_PREEMPTED, _subject(job))
    if job.created_by:
        tell(team=job.team, kind=Kind.TRAINING_PREEMPTED, people=[job.created_by], subject=_subject(job))


def announce_checkpoint(job: TrainingJob, checkpoint: Checkpoint) -> None:
    """Tell that a checkpoint was stored; its step is the one it can be resumed from."""
    emit(
        job.team,
        EventType.TRAINING_CHECKPOINT,
        _subject(job, checkpoint=checkpoint.uid, step=checkpoint.step),
    )


def announce_cancel(job: TrainingJob, by: Actor) -> None:
    """Tell the person who started the training that somebody else ends it."""
    if not job.is_short and job.created_by and job.created_by_id != by.user.pk:
        tell(
            team=job.team,
            kind=Kind.TRAINING_CANCELED,
            people=[job.created_by],
            subject=_subject(job),
            who=str(by.user),
        )


def _subject(job: TrainingJob, **more: str | int) -> Subject:
    failed = job.state == JobState.FAILED
    return Subject(
        uid=job.uid,
        kind="training",
        name=job.name,
        path=f"/t/{job.team.slug}/trainings/{job.uid}/",
        more={
            "status": job.state,
            "project": job.project.uid,
            "step": job.step,
            "total_steps": job.total_steps,
            "model_version": job.lora_version.uid if job.lora_version else None,
            "error": {"code": job.error_code, "category": job.error_category} if failed else None,
            **more,
        },
    )
