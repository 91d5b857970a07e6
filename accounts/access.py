"""Find the actor behind a request; strangers and missing teams look the same."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from accounts.actor import Actor, member_actor
from accounts.models import Membership, Team, User
from core.errors import NotFound


def actor_for(user: User | AnonymousUser, slug: str) -> Actor:
    """Return the actor for `user` in the team with `slug`; raise NotFound for strangers."""
    membership = (
        Membership.objects.select_related("team").filter(team__slug=slug, user_id=user.pk).first()
        if user.is_authenticated
        else None
    )
    if membership is None or not isinstance(user, User):
        raise NotFound
    return member_actor(membership.team, user, membership.role)


def teams_of(user: User) -> list[Team]:
    """Return the teams of `user`, the oldest membership first."""
    return [
        m.team for m in Membership.objects.select_related("team").filter(user=user).order_by("created_at")
    ]
