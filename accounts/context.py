"""What the frame around every page needs of the person and the team."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from accounts.access import teams_of
from accounts.models import User
from accounts.roles import Can


def team(request: HttpRequest) -> dict[str, Any]:
    """Give the actor's team, the person's teams (one query, made only if the template asks) and the rights."""
    actor = getattr(request, "actor", None)
    user = getattr(request, "user", None)
    context: dict[str, Any] = {"actor": actor, "team": actor.team if actor else None, "Can": Can}
    if actor:
        rights = {"may_manage": Can.TEAM_MANAGE, "may_keys": Can.API_KEYS, "may_own": Can.TEAM_OWN}
        context |= {name: actor.can(right) for name, right in rights.items()}
    context["my_teams"] = (lambda: teams_of(user)) if isinstance(user, User) else []
    return context
