"""Make, rename, hand over, delete and restore teams."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.actor import Actor, member_actor, require
from accounts.models import Membership, Team, User
from accounts.roles import Can, Role
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound
from core.realtime.access import tell_access_changed

# A deleted team can be restored for so long; then it is erased.
KEPT_FOR = timedelta(days=14)
MOST_TEAMS_OWNED = 50


def create_team(*, owner: User, name: str, slug: str = "", is_demo: bool = False) -> Actor:
    """Make a team with `owner` as its owner and return the owner's actor in it."""
    if Membership.objects.filter(user=owner, role=Role.OWNER).count() >= MOST_TEAMS_OWNED:
        raise DomainError(
            "too_many_teams", _("You own %(n)s teams; no more can be made.") % {"n": MOST_TEAMS_OWNED}
        )
    name = name.strip() or _("%(name)s's team") % {"name": owner.name or owner.email.split("@")[0]}
    wanted = slug or slugify(name)[:40] or "team"
    for candidate in (wanted, *(f"{wanted}-{secrets.token_hex(3)}" for _try in range(5))):
        try:
            with transaction.atomic():
                team = Team.objects.create(name=name[:80], slug=candidate, is_demo=is_demo)
                Membership.objects.create(team=team, user=owner, role=Role.OWNER)
                actor = member_actor(team, owner, Role.OWNER)
                audit(actor, "team.created", team)
                return actor
        except IntegrityError as error:
            if "slug" not in str(error):
                raise
    raise RuntimeError("no free address for a team was found")


def change_team(*, actor: Actor, name: str | None = None, require_two_factor: bool | None = None) -> None:
    """Rename the actor's team or change what it asks of its members; its address stays, so that links go on.

    Raise DomainError when the actor would lock themselves out by asking for a second factor they do not have.
    """
    require(actor, Can.TEAM_MANAGE)
    after: dict[str, object] = {}
    if name is not None:
        if not name.strip():
            raise DomainError("name_missing", _("Give the team a name."), pointer="/name")
        after["name"] = name.strip()[:80]
    if require_two_factor is not None:
        if require_two_factor and not actor.user.has_second_factor:
            raise DomainError(
                "two_factor_missing",
                _("Set up a second factor for yourself first, or you would lock yourself out."),
                pointer="/require_two_factor",
            )
        after["require_two_factor"] = require_two_factor
    with transaction.atomic():
        team = Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        after = {field: value for field, value in after.items() if getattr(team, field) != value}
        if not after:
            return
        before = {field: getattr(team, field) for field in after}
        Team.objects.filter(pk=team.pk).update(**after)
        actor.team.refresh_from_db()
        audit(actor, "team.changed", actor.team, before=before, after=after)
        transaction.on_commit(tell_access_changed, robust=True)


def transfer_team(*, actor: Actor, user_uid: str) -> None:
    """Make another member the owner; the actor becomes an admin."""
    require(actor, Can.TEAM_OWN)
    with transaction.atomic():
        # The team first, as everywhere that members change: locks taken in another order wait in a circle.
        Team.objects.select_for_update().get(pk=actor.team.pk)
        heir = (
            Membership.objects.select_related("user")
            .filter(team=actor.team, user__uid=user_uid, user__is_active=True)
            .exclude(user=actor.user)
            .first()
        )
        if heir is None:
            raise NotFound
        before = heir.role
        Membership.objects.filter(pk=heir.pk).update(role=Role.OWNER)
        Membership.objects.filter(team=actor.team, user=actor.user).update(role=Role.ADMIN)
        audit(actor, "team.transferred", heir.user, before=before, after=Role.OWNER.value)
        transaction.on_commit(tell_access_changed, robust=True)


def delete_team(*, actor: Actor, name: str) -> None:
    """Close the actor's team to everybody; for two weeks an owner can restore it. `name` confirms it."""
    require(actor, Can.TEAM_OWN)
    if name.strip() != actor.team.name:
        raise DomainError(
            "name_wrong", _("Write the name of the team exactly as it is to delete it."), pointer="/name"
        )
    with transaction.atomic():
        if Team.objects.filter(pk=actor.team.pk, deleted_at=None).update(deleted_at=timezone.now()):
            audit(actor, "team.deleted", actor.team)
            transaction.on_commit(tell_access_changed, robust=True)


def restore_team(*, owner: User, uid: str) -> Team:
    """Open a deleted team of `owner` again; raise NotFound if it is not theirs, Conflict if it is not deleted."""
    with transaction.atomic():
        membership = (
            Membership.objects.select_related("team")
            .filter(team__uid=uid, user=owner, role=Role.OWNER)
            .first()
        )
        if membership is None:
            raise NotFound
        team = membership.team
        restorable = Team.objects.filter(pk=team.pk, erasing_at=None).exclude(deleted_at=None)
        if not restorable.update(deleted_at=None):
            raise Conflict("not_deleted", _("This team is not deleted, or it is being erased already."))
        audit(member_actor(team, owner, Role.OWNER), "team.restored", team)
    return team
