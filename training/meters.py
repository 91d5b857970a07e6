"""The quotas of the training app."""

from __future__ import annotations

from django.conf import settings

from accounts.models import Team
from core.quotas import Meter, register
from training.models import TrainingJob
from training.states import LIVE, JobState


def running_count(team: Team) -> int:
    """Return how many trainings of the team a worker is busy with; simulated ones do not count."""
    return TrainingJob.objects.for_team(team).filter(state__in=LIVE, is_test=False).count()


def queued_count(team: Team) -> int:
    """Return how many trainings of the team wait; simulated ones do not count."""
    return TrainingJob.objects.for_team(team).filter(state=JobState.QUEUED, is_test=False).count()


def register_meters() -> None:
    """Tell the list of quotas what this app counts."""
    register(Meter("running_trainings", limit=lambda: settings.TEAM_MAX_RUNNING, used=running_count))
    register(Meter("queued_trainings", limit=lambda: settings.TEAM_MAX_QUEUED, used=queued_count))
