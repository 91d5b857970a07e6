"""Who acts: a person in a team, or a team's API key. Passed explicitly to every service and selector."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from accounts.roles import ROLE_CAN, Can, Role, may_grant
from core.errors import PermissionDenied

if TYPE_CHECKING:
    from accounts.models import ApiKey, Team, User


# Whoever of the installation's operators acts as the person at the moment, "" for nobody.
operator_email: ContextVar[str] = ContextVar("operator_email", default="")
# What would outlast the half hour that an operator acts as somebody: credentials, members, the team itself.
NOT_FOR_OPERATORS = frozenset(
    {Can.API_KEYS, Can.API_KEYS_ALL, Can.WEBHOOKS, Can.MEMBERS, Can.EXPORT, Can.BILLING, Can.TEAM_OWN}
)


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
    """Return the actor for a person with `role` in `team`; an operator in their place may do less."""
    permissions = ROLE_CAN[Role(role)]
    if operator_email.get():
        permissions -= NOT_FOR_OPERATORS
    return Actor(team=team, user=user, permissions=permissions, role=Role(role))


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


def may_hand_out(actor: Actor, role: Role) -> bool:
    """Tell whether `actor` may give or take `role`; only who may hand over the team itself makes owners, no key."""
    return may_grant(actor.role, role) and (role != Role.OWNER or actor.can(Can.TEAM_OWN))
