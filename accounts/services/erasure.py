"""Erase a team for good: rows, files, caches, exports. Nothing of it can be brought back."""

from __future__ import annotations

import logging

from django.db import connection, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Team
from accounts.services.exports import tenant_models
from accounts.services.teams import KEPT_FOR
from core import storage

log = logging.getLogger(__name__)


def erase_team(team: Team) -> dict[str, int]:
    """Erase a team that was deleted two weeks ago and return how many rows of each table went, none if it may not be.

    It is marked first, so that nobody restores it meanwhile. The files go next: if that fails the rows still say what
    there is to erase, and the next run goes on.
    """
    may_go = Team.objects.filter(pk=team.pk, deleted_at__lt=timezone.now() - KEPT_FOR)
    if not may_go.update(erasing_at=Coalesce("erasing_at", timezone.now())):
        return {}
    storage.delete_team(team.uid)
    counts = {}
    with transaction.atomic(), connection.cursor() as cursor:
        # The audit log lets go of its rows for this alone, and links are looked at when all rows are gone.
        cursor.execute("SET LOCAL lf.erase = 'on'")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for model in tenant_models():
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(f"DELETE FROM {table} WHERE team_id = %s", [team.pk])  # noqa: S608
            counts[model._meta.label_lower] = cursor.rowcount
        team.memberships.all().delete()
        team.delete()
    log.info("erased %s: %s rows", team.uid, sum(counts.values()))
    return counts


def erase_deleted_teams() -> int:
    """Erase every team that was deleted two weeks ago; return how many."""
    gone = Team.objects.filter(deleted_at__lt=timezone.now() - KEPT_FOR).order_by("deleted_at")
    erased = 0
    for team in gone[:20]:
        try:
            erased += bool(erase_team(team))
        except Exception:
            log.exception("%s could not be erased; the others go on", team.uid)
    return erased
