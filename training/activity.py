"""What happened in a team lately, told from the rows themselves: who may not see a project is told nothing of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Membership
from accounts.roles import Can
from projects.models import DatasetVersion, LoraVersion, Project
from projects.visibility import seen_by
from training.models import TrainingJob
from training.states import JobState

SHOWN = 30


@dataclass(frozen=True, slots=True)
class Happening:
    """Be one line of the feed: at what time `who` did what to what, and where to look at it."""

    at: datetime
    who: str
    what: str
    name: str
    address: str
    icon: str


def recent_activity(actor: Actor, count: int = SHOWN) -> list[Happening]:
    """Return the newest happenings of the actor's team (six queries, whatever happened)."""
    require(actor, Can.TEAM_VIEW)
    kinds: Iterable[Iterator[Happening]] = (
        _joined(actor, count),
        _projects(actor, count),
        _frozen(actor, count),
        _started(actor, count),
        _ended(actor, count),
        _made(actor, count),
    )
    return nlargest(count, (each for kind in kinds for each in kind), key=lambda each: each.at)


def _page(actor: Actor, name: str, uid: str) -> str:
    return reverse(name, args=[actor.team.slug, uid])


def _name(person: Any) -> str:
    return str(person) if person else _("somebody who is gone")


def _joined(actor: Actor, count: int) -> Iterator[Happening]:
    members = Membership.objects.filter(team=actor.team).select_related("user").order_by("-created_at")
    address = reverse("accounts:member_list", args=[actor.team.slug])
    for member in members[:count]:
        yield Happening(member.created_at, str(member.user), _("joined the team"), "", address, "user-plus")


def _projects(actor: Actor, count: int) -> Iterator[Happening]:
    if not actor.can(Can.PROJECT_VIEW):
        return
    rows = seen_by(actor, Project.objects.for_team(actor.team), "").select_related("created_by")
    for row in rows.order_by("-created_at")[:count]:
        address = _page(actor, "projects:project", row.uid)
        yield Happening(
            row.created_at, _name(row.created_by), _("made the project"), row.name, address, "folder"
        )


def _frozen(actor: Actor, count: int) -> Iterator[Happening]:
    if not actor.can(Can.DATASET_VIEW):
        return
    rows = seen_by(actor, DatasetVersion.objects.for_team(actor.team), "dataset__project")
    for row in rows.select_related("dataset", "created_by").order_by("-created_at")[:count]:
        address = _page(actor, "projects:dataset", row.dataset.uid)
        yield Happening(row.created_at, _name(row.created_by), _("froze"), str(row), address, "snowflake")


def _started(actor: Actor, count: int) -> Iterator[Happening]:
    if not actor.can(Can.TRAINING_VIEW):
        return
    rows = seen_by(actor, TrainingJob.objects.for_team(actor.team)).select_related("created_by")
    for row in rows.order_by("-created_at")[:count]:
        address = _page(actor, "training:job", row.uid)
        yield Happening(
            row.created_at, _name(row.created_by), _("started the training"), row.name, address, "activity"
        )


def _ended(actor: Actor, count: int) -> Iterator[Happening]:
    if not actor.can(Can.TRAINING_VIEW):
        return
    words = {
        JobState.SUCCEEDED: (_("The training is done:"), "circle-check"),
        JobState.STOPPED: (_("The training was stopped and kept:"), "circle-check"),
        JobState.FAILED: (_("The training failed:"), "circle-alert"),
        JobState.CANCELED: (_("The training was canceled:"), "ban"),
    }
    rows = seen_by(actor, TrainingJob.objects.for_team(actor.team)).exclude(finished_at=None)
    for row in rows.order_by("-finished_at")[:count]:
        what, icon = words[JobState(row.state)]
        yield Happening(row.finished_at, "", what, row.name, _page(actor, "training:job", row.uid), icon)


def _made(actor: Actor, count: int) -> Iterator[Happening]:
    if not actor.can(Can.MODEL_VIEW):
        return
    rows = seen_by(actor, LoraVersion.objects.for_team(actor.team), "model__project")
    for row in rows.select_related("model").order_by("-created_at")[:count]:
        address = _page(actor, "projects:model", row.model.uid)
        yield Happening(row.created_at, "", _("A model is ready:"), str(row), address, "box")
