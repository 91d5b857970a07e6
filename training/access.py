"""Who may follow a training live, and what is sent to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from accounts.access import actors_of
from accounts.actor import Actor
from accounts.roles import Can
from core.realtime.topics import Items, TopicKind
from projects.visibility import seen_by
from training.models import JobEvent, TrainingJob
from training.queue.lookup import heads_of, team_of
from training.services.lifecycle import event_item
from training.states import is_terminal


def may_follow(user: Any, uid: str) -> bool:
    """Tell whether `user` may see the training: an active member of its team whose role shows trainings."""
    return any(is_shown_to(actor, uid) for actor in actors_of(user))


def is_shown_to(actor: Actor, uid: str) -> bool:
    """Tell whether `actor` may see the training now."""
    jobs = seen_by(actor, TrainingJob.jobs.for_team(actor.team))
    return actor.can(Can.TRAINING_VIEW) and jobs.filter(uid=uid).exists()


def events_of(uid: str, after: int, limit: int) -> Items:
    """Return the stored events of a training above `after`; the door (`may_follow`) was passed before."""
    team = team_of(uid)
    if team is None:
        return []
    rows = JobEvent.objects.for_team(team).filter(job__uid=uid, seq__gt=after).order_by("seq")
    return [event_item(event) for event in rows[:limit]]


def heads(uids: Iterable[str]) -> dict[str, int]:
    """Return the last seq of each training."""
    return heads_of(uids)


def is_last(item: dict[str, Any]) -> bool:
    """Tell whether an event is the end of its training."""
    return item["type"] == "status" and is_terminal(item["data"]["state"])


TRAINING_TOPIC = TopicKind(may_read=may_follow, events_after=events_of, heads=heads, is_last=is_last)
