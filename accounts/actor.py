"""Who acts: a person in a team, or a team's API key. Passed explicitly to every service and selector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from accounts.roles import ROLE_CAN, Can, Role
from core.errors import PermissionDenied

if TYPE_CHECKING:
    from accounts.models import ApiKey, Team, User


@dataclass(frozen=True, slots=True)
class Actor:
    """Hold one team and what its bearer may do there.

    `user` and `role` are the person's, or those of the key's maker; a key's `permissions` are fewer than the role's.
    """

    team: Team
    user: User
    permissions: frozenset[Can]
    role: Role
    api_key: ApiKey | None = None

    def can(self, permission: Can) -> bool:
        return permission in self.permissions

    @property
    def sees_all_projects(self) -> bool:
        """Tell whether restricted projects are open to this role; a key is never asked to hold a scope for it."""
        return Can.PROJECT_ALL in ROLE_CAN[self.role]


def require(actor: Actor, permission: Can) -> None:
    """Raise PermissionDenied unless `actor` has `permission`."""
    if not actor.can(permission):
        raise PermissionDenied(
            _("Your role in this team does not allow this. Ask an admin of the team."), permission=permission
        )


def member_actor(team: Team, user: User, role: str) -> Actor:
    """Return the actor for a person with `role` in `team`."""
    return Actor(team=team, user=user, permissions=ROLE_CAN[Role(role)], role=Role(role))


def key_actor(key: ApiKey, role: str) -> Actor:
    """Return the actor for an API key: its scopes, but never more than its maker's role allows now."""
    scopes = frozenset(Can(scope) for scope in key.scopes if scope in Can.values)
    return Actor(
        team=key.team,
        user=key.created_by,
        permissions=scopes & ROLE_CAN[Role(role)],
        role=Role(role),
        api_key=key,
    )
