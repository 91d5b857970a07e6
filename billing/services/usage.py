"""Take note of compute used, and sum it up."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Case, F, Sum, When
from django.utils import timezone

from accounts.models import Team, User
from billing.models import UsageEntry, UsageKind
from billing.services.ledger import settle


def record_usage(
    *,
    team: Team,
    job_uid: str,
    attempt: int,
    seconds: float,
    useful: bool,
    seconds_lost: float = 0.0,
    kind: UsageKind = UsageKind.TRAINING,
    rate: float = 1.0,
    user: User | None = None,
    project_uid: str = "",
    project_name: str = "",
) -> None:
    """Note what one attempt used, for whom and what, and charge it if it was useful; lost work is free.

    Each second is charged as `rate` seconds. `seconds_lost` came after the `seconds` of an attempt that was useful up
    to there, and are free too. A repeat for the same attempt changes nothing.
    """
    seconds, seconds_lost = max(0.0, seconds), max(0.0, seconds_lost)
    with transaction.atomic():
        _entry, is_new = UsageEntry.objects.for_team(team).get_or_create(
            job_uid=job_uid,
            attempt=attempt,
            defaults={
                "team": team,
                "seconds": seconds,
                "useful": useful,
                "seconds_lost": seconds_lost,
                "kind": kind,
                "user": user,
                "project_uid": project_uid,
                "project_name": project_name,
            },
        )
        if is_new and useful:
            settle(team, job_uid=job_uid, attempt=attempt, seconds=seconds * rate)


# Of some entries, all seconds of work that was lost.
LOST_SECONDS = Sum(Case(When(useful=True, then=F("seconds_lost")), default=F("seconds")))


def seconds_this_month(team: Team) -> float:
    """Return the useful compute seconds of `team` since the first of this month (UTC)."""
    start = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    entries = UsageEntry.objects.for_team(team).filter(created_at__gte=start, useful=True)
    return entries.aggregate(total=Sum("seconds"))["total"] or 0.0
