"""The quotas of the training app."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from billing.entitlements import month_of
from core.quotas import Meter, register
from training.models import TrainingJob
from training.states import LIVE, JobState


def running_count(team: Team) -> int:
    """Return how many trainings of the team a worker is busy with; simulated ones do not count."""
    return TrainingJob.objects.for_team(team).filter(state__in=LIVE, is_test=False).count()


def queued_count(team: Team) -> int:
    """Return how many trainings of the team wait; simulated ones do not count."""
    return TrainingJob.objects.for_team(team).filter(state=JobState.QUEUED, is_test=False).count()


def queued_short_count(team: Team) -> int:
    """Return how much short work of the team waits: pictures to draw and the like."""
    rows = TrainingJob.jobs.for_team(team).filter(is_short=True, state=JobState.QUEUED, is_test=False)
    return rows.count()


def month_count(team: Team) -> int:
    """Return how many trainings of this month count: not simulated ones, not those that a fault of ours ended or
    that were canceled before they began."""
    start, end = month_of()
    never_began = Q(state=JobState.CANCELED, started_at=None)
    our_fault = Q(state=JobState.FAILED, error_category="platform")
    rows = TrainingJob.objects.for_team(team).filter(created_at__gte=start, created_at__lt=end, is_test=False)
    return rows.exclude(never_began | our_fault).count()


def register_meters() -> None:
    """Tell the list of quotas what this app counts."""
    register(
        Meter(
            "running_trainings",
            _("Trainings at once"),
            _("%(used)s trainings of this team run already (limit %(limit)s). The next one waits its turn."),
            used=running_count,
            limit=lambda: settings.TEAM_MAX_RUNNING,
        )
    )
    register(
        Meter(
            "queued_trainings",
            _("Trainings waiting"),
            _("%(used)s trainings of this team are waiting already (limit %(limit)s). Wait or cancel one."),
            used=queued_count,
            limit=lambda: settings.TEAM_MAX_QUEUED,
        )
    )
    register(
        Meter(
            "queued_short_work",
            _("Short work waiting"),
            _("%(used)s orders of this team are waiting already (limit %(limit)s). Wait or cancel one."),
            used=queued_short_count,
            limit=lambda: settings.TEAM_MAX_QUEUED,
            like="queued_trainings",
        )
    )
    register(
        Meter(
            "trainings_a_month",
            _("Trainings this month"),
            _("This team has started %(used)s of its %(limit)s trainings of this month."),
            used=month_count,
            is_monthly=True,
        )
    )
    register(
        Meter(
            "steps_per_training",
            _("Steps of a training"),
            _("Your plan trains for up to %(limit)s steps. Choose fewer."),
        )
    )
