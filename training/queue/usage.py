"""How much GPU time each team used of late: charged when a job starts, by its estimate, and put right at its end.

So many jobs sent at once do not all start before others: each one that starts counts for the next.
"""

from __future__ import annotations

from django.db import connection
from django.utils import timezone

from accounts.models import Team
from training.models import TeamUsage
from training.queue.policy import Rules, decayed
from training.queue.rules import rules

_CHARGE = f"""
    INSERT INTO {TeamUsage._meta.db_table} (team_id, created_at, as_of, seconds)
    VALUES (%(team)s, clock_timestamp(), clock_timestamp(), greatest(0, %(seconds)s))
    ON CONFLICT (team_id) DO UPDATE SET
        seconds = greatest(0, {TeamUsage._meta.db_table}.seconds * power(
            0.5::float8,
            greatest(0, extract(epoch FROM clock_timestamp() - {TeamUsage._meta.db_table}.as_of)) / %(half_life)s
        ) + %(seconds)s),
        as_of = clock_timestamp()
"""  # noqa: S608


def charge(team: Team, seconds: float) -> None:
    """Count `seconds` (may be negative) as used by `team` now."""
    values = {"team": team.pk, "seconds": float(seconds), "half_life": rules().half_life}
    with connection.cursor() as cursor:
        cursor.execute(_CHARGE, values)


def used_of_late(team: Team, values: Rules) -> float:
    """Return the GPU seconds of `team` that still count (one query)."""
    row = TeamUsage.objects.for_team(team).first()
    if row is None:
        return 0.0
    return decayed(values, row.seconds, max(0.0, (timezone.now() - row.as_of).total_seconds()))
