"""The quotas of the accounts app, and what the clock does for it."""

from __future__ import annotations

from accounts.models import Invitation, Team
from accounts.services.invitations import MOST_OPEN
from accounts.services.tokens import forget_expired_tokens
from core.periodic import every
from core.quotas import Meter, register


def open_invitation_count(team: Team) -> int:
    """Return how many invitations were neither accepted nor revoked."""
    return Invitation.objects.for_team(team).filter(accepted_at=None, revoked_at=None).count()


def register_meters() -> None:
    """Tell the list of quotas what this app counts."""
    register(Meter("open_invitations", limit=lambda: MOST_OPEN, used=open_invitation_count))


every(3600)(forget_expired_tokens)
