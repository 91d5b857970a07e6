"""The quotas of the accounts app, and what the clock does for it."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from accounts.services.invitations import MOST_OPEN, open_count
from accounts.services.tokens import forget_expired_tokens
from core.periodic import every
from core.quotas import Meter, register


def seats_taken(team: Team) -> int:
    """Return how many seats are taken or promised: members and open invitations."""
    return team.memberships.filter(user__is_active=True).count() + open_count(team)


def register_meters() -> None:
    """Tell the list of quotas what this app counts."""
    register(
        Meter(
            "open_invitations",
            _("Open invitations"),
            _("%(limit)s invitations are open. Revoke some, or wait until they are accepted."),
            used=open_count,
            limit=lambda: MOST_OPEN,
        )
    )
    register(
        Meter(
            "seats",
            _("Seats"),
            _("All %(limit)s seats of the team are taken or promised."),
            used=seats_taken,
        )
    )


every(3600)(forget_expired_tokens)
