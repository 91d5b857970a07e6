"""What the live path asks about jobs of any team, after each browser's right was checked."""

from __future__ import annotations

from collections.abc import Iterable

from accounts.models import Team
from training.models import TrainingJob


def team_of(uid: str) -> Team | None:
    """Return the team of a training."""
    job = TrainingJob.unscoped.select_related("team").filter(uid=uid).first()
    return job.team if job is not None else None


def heads_of(uids: Iterable[str]) -> dict[str, int]:
    """Return the seq of the last event of each training, in one query."""
    return dict(TrainingJob.unscoped.filter(uid__in=list(uids)).values_list("uid", "last_seq"))
