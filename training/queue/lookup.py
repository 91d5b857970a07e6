"""What the machinery asks about jobs of any team; a person's right was checked before."""

from __future__ import annotations

from collections.abc import Iterable

from accounts.models import Team
from training.models import TrainingJob
from training.states import LIVE


def team_of(uid: str) -> Team | None:
    """Return the team of a training."""
    job = TrainingJob.unscoped.select_related("team").filter(uid=uid).first()
    return job.team if job is not None else None


def heads_of(uids: Iterable[str]) -> dict[str, int]:
    """Return the seq of the last event of each training, in one query."""
    return dict(TrainingJob.unscoped.filter(uid__in=list(uids)).values_list("uid", "last_seq"))


def live_uids(uids: Iterable[str]) -> set[str]:
    """Return those of `uids` that are trainings some worker holds right now."""
    rows = TrainingJob.unscoped.filter(uid__in=list(uids), state__in=LIVE)
    return set(rows.values_list("uid", flat=True))
