"""The lease: a worker's right to write for one job, for a minute at a time."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from accounts.models import Team
from training.models import TrainingJob
from training.states import LIVE


@dataclass(frozen=True, slots=True)
class Lease:
    """Name one attempt. Whoever holds an older fence can change nothing any more.

    `slots` are the numbers of the GPUs that it runs on, the worker's own first.
    """

    job_id: int
    job_uid: str
    team: Team
    fence: int
    slots: tuple[int, ...] = ()


_TABLE = TrainingJob._meta.db_table


def renew(lease: Lease) -> str | None:
    """Prolong the lease and return what is wanted of the job ("" for nothing); None means that the lease is gone.

    After None the holder must kill its engine at once and write nothing. The database's clock alone counts.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE {_TABLE} SET lease_until = clock_timestamp() + make_interval(secs => %s)
                WHERE id = %s AND fence = %s AND state = ANY(%s) RETURNING desired""",  # noqa: S608
            [settings.LEASE_SECONDS, lease.job_id, lease.fence, sorted(LIVE)],
        )
        row = cursor.fetchone()
    return None if row is None else str(row[0])


def wish(lease: Lease) -> str | None:
    """Return what is wanted of the job without prolonging the lease; None means that the lease is gone."""
    found = TrainingJob.jobs.for_team(lease.team).filter(pk=lease.job_id, fence=lease.fence, state__in=LIVE)
    desired: str | None = found.values_list("desired", flat=True).first()
    return desired
