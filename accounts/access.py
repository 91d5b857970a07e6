"""Find the actor behind a request; strangers and missing or deleted teams look the same."""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext as _

from accounts.actor import Actor, member_actor
from accounts.models import Membership, Team, User
from core.errors import NotFound, PermissionDenied


class TwoFactorRequired(PermissionDenied):
    """Say that the team lets only those in who guard their account with a second factor."""

    def __init__(self) -> None:
        super().__init__(
            _("This team asks for a second factor. Set one up in your profile."), permission="two_factor"
        )
        self.code = "two_factor_required"


def actor_for(user: User | AnonymousUser, slug: str) -> Actor:
    """Return the actor for `user` in the team with `slug`; raise NotFound for strangers, or TwoFactorRequired."""
    membership = (
        Membership.objects.select_related("team")
        .filter(team__slug=slug, team__deleted_at=None, user_id=user.pk)
        .first()
        if user.is_authenticated
        else None
    )
    if membership is None or not isinstance(user, User):
        raise NotFound
    check_second_factor(membership.team, user)
    return member_actor(membership.team, user, membership.role)


def check_second_factor(team: Team, user: User) -> None:
    """Raise TwoFactorRequired if `team` asks for a second factor and `user` has none."""
    if team.require_two_factor and not user.has_second_factor:
        raise TwoFactorRequired


def actors_of(user: User) -> Iterator[Actor]:
    """Yield an actor for each team that `user` may enter now."""
    memberships = Membership.objects.select_related("team", "user")
    for membership in memberships.filter(user_id=user.pk, user__is_active=True, team__deleted_at=None):
        team = membership.team
        if not team.require_two_factor or membership.user.has_second_factor:
            yield member_actor(team, membership.user, membership.role)


def open_team_uids(user: User) -> set[str]:
    """Return the uids of the teams that `user` may enter now: not those that ask for a second factor they lack."""
    return {actor.team.uid for actor in actors_of(user)}


def teams_of(user: User) -> list[Team]:
    """Return the teams of `user`, the oldest membership first."""
    memberships = Membership.objects.select_related("team").filter(user=user, team__deleted_at=None)
    return [membership.team for membership in memberships.order_by("created_at")]
