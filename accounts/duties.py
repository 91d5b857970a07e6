"""Recurring duties of the accounts app: what the clock does for all teams alike."""

from __future__ import annotations

from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import ExportState, TeamExport
from accounts.services.erasure import erase_deleted_teams
from accounts.services.exports import export_key
from accounts.services.retention import note_forgotten
from core import storage
from core.periodic import every


@every(3600)
def erase_teams() -> int:
    """Erase what was deleted two weeks ago."""
    return erase_deleted_teams()


@every(86_400)
def forget_old_sessions() -> None:
    """Delete sessions that have ended."""
    call_command("clearsessions")


@every(3600)
def delete_old_exports() -> int:
    """Delete exports a week after they were asked for; return how many."""
    old = list(TeamExport.unscoped.filter(expires_at__lt=timezone.now()).select_related("team")[:100])
    for export in old:
        if export.state == ExportState.READY:
            storage.delete(export_key(export))
        with transaction.atomic():
            gone, _by_model = TeamExport.objects.for_team(export.team).filter(pk=export.pk).delete()
            note_forgotten(export.team, "exports", count=gone, size=export.size)
    return len(old)
