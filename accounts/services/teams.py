"""Make and rename teams."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.actor import Actor, member_actor, require
from accounts.models import Membership, Team, User
from accounts.roles import Can, Role
from accounts.services.audit import audit
from core.errors import DomainError


def create_team(*, owner: User, name: str, slug: str = "", is_demo: bool = False) -> Actor:
    """Make a team with `owner` as its owner and return the owner's actor in it."""
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


def rename_team(*, actor: Actor, name: str) -> None:
    """Give the actor's team another name; its address stays, so that links go on working."""
    require(actor, Can.TEAM_MANAGE)
    name = name.strip()[:80]
    if not name:
        raise DomainError("name_missing", _("Give the team a name."), pointer="/name")
    before = actor.team.name
    if name == before:
        return
    with transaction.atomic():
        Team.objects.filter(pk=actor.team.pk).update(name=name)
        actor.team.name = name
        audit(actor, "team.renamed", actor.team, before=before)
