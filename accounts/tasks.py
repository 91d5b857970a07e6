"""Short jobs of the accounts app, sent through the outbox."""

from __future__ import annotations

from accounts.models import Invitation, User
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
