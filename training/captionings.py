"""What the pages and the API read of orders for captions; the same number of queries for one and for many."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from accounts.actor import Actor, require
from accounts.roles import Can
from core.errors import NotFound
from projects.models import Dataset
from projects.visibility import seen_by
from training.kinds import JobKind
from training.models import CaptionOutcome, TrainingJob
from training.states import TERMINAL

# How long the page of a picture set tells of an order that has ended.
_TOLD_FOR = timedelta(hours=1)
_SHOWN = 3


def captionings_of(actor: Actor) -> QuerySet[TrainingJob]:
    """Return the team's orders for captions, the newest first, with `written`, `kept` and `left` counted."""
    require(actor, Can.TRAINING_VIEW)
    rows = TrainingJob.jobs.for_team(actor.team).filter(kind=JobKind.CAPTIONING)
    counts = {
        outcome.value: Count("captions", filter=Q(captions__outcome=outcome))
        for outcome in (CaptionOutcome.WRITTEN, CaptionOutcome.KEPT, CaptionOutcome.LEFT)
    }
    jobs: QuerySet[TrainingJob] = (
        seen_by(actor, rows).select_related("team", "project", "created_by").annotate(**counts)
    )
    return jobs.order_by("-created_at", "-id")


def captioning_by_uid(actor: Actor, uid: str) -> TrainingJob:
    """Return an order for captions; raise NotFound."""
    job = captionings_of(actor).filter(uid=uid).first()
    if job is None:
        raise NotFound
    return job


def captionings_shown(actor: Actor, dataset: Dataset) -> list[TrainingJob]:
    """Return the orders that the page of a picture set tells of: those under way, and what has just ended."""
    ended = Q(state__in=TERMINAL)
    rows = captionings_of(actor).filter(spec__dataset=dataset.uid)
    return list(rows.filter(~ended | Q(finished_at__gte=timezone.now() - _TOLD_FOR))[:_SHOWN])
