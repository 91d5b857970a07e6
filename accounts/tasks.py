"""Short jobs of the accounts app, sent through the outbox."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.urls import reverse

from accounts.models import ExportState, Invitation, TeamExport, User
from accounts.services.exports import build_export
from accounts.services.invitations import link_of
from core.mail import send_mail
from core.outbox import short_job


@short_job(queue_name="mail", most_failures=8)
def mail_invitation(invitation_uid: str) -> None:
    """Write an invitation to its address, in the language of whoever is there, else of who invites."""
    invitation = Invitation.unscoped.select_related("team", "invited_by").filter(uid=invitation_uid).first()
    if invitation is None or not invitation.is_open:
        return
    reader = User.objects.filter(email=invitation.email).first() or invitation.invited_by
    send_mail(
        "invitation",
        to=invitation.email,
        language=reader.language if reader else "en",
        time_zone=reader.time_zone if reader else "UTC",
        context={"invitation": invitation, "team": invitation.team, "url": link_of(invitation)},
    )


def _export_failed(export_uid: str) -> None:
    TeamExport.unscoped.filter(uid=export_uid).update(state=ExportState.FAILED)


@short_job(
    queue_name="default",
    most_failures=3,
    lease=timedelta(hours=2, minutes=5),
    time_limit=timedelta(hours=2),
    give_up=_export_failed,
)
def make_export(export_uid: str) -> None:
    """Make the zip of a team's export, and write to who asked for it."""
    export = TeamExport.unscoped.select_related("team", "created_by").filter(uid=export_uid).first()
    if export is None or export.state != ExportState.PENDING:
        return
    build_export(export)
    if export.created_by and export.created_by.is_active:
        send_mail(
            "export_ready",
            to=export.created_by.email,
            language=export.created_by.language,
            context={
                "team": export.team,
                "url": f"{settings.SITE_URL}{reverse('accounts:privacy', args=[export.team.slug])}",
            },
        )
