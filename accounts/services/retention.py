"""Write down what was forgotten, so that nobody has to wonder where something went."""

from __future__ import annotations

from django.db import connection
from django.utils import timezone

from accounts.models import Forgotten, Team


def note_forgotten(team: Team, what: str, *, count: int, size: int = 0) -> None:
    """Add `count` things of `size` bytes to today's report of `team`; call in the transaction that deletes them."""
    if not count:
        return
    table = connection.ops.quote_name(Forgotten._meta.db_table)
    with connection.cursor() as cursor:
        # One statement: two clocks that hand over to each other may both be at it.
        cursor.execute(
            f"INSERT INTO {table} (team_id, created_at, day, what, count, bytes) "  # noqa: S608
            "VALUES (%s, now(), %s, %s, %s, %s) ON CONFLICT (team_id, day, what) "
            f"DO UPDATE SET count = {table}.count + EXCLUDED.count, bytes = {table}.bytes + EXCLUDED.bytes",
            [team.pk, timezone.now().date(), what, count, size],
        )
