"""Where a newcomer belongs: the team that invited them in this browser, else a team of their own."""

from __future__ import annotations

from django.http import HttpRequest

from accounts.models import Invitation, User
from accounts.services.invitations import accept_invitation, invitation_of
from accounts.services.teams import create_team


def open_invitation(request: HttpRequest) -> Invitation | None:
    """Return the open invitation whose link was opened in this browser."""
    invited = invitation_of(request.session.get("invitation", ""))
    return invited if invited and invited.is_open else None


def join_or_begin(request: HttpRequest, person: User, team_name: str = "") -> None:
    """Let a new person into the team that invited them, else make them a team."""
    invited = open_invitation(request)
    if invited is None or invited.email != person.email:
        create_team(owner=person, name=team_name)
        return
    accept_invitation(user=person, invitation=invited)
    request.session.pop("invitation", None)
