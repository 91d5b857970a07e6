"""Who belongs to a team, and as what. A team always keeps an owner."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.actor import Actor, may_hand_out, require
from accounts.listeners import tell_member_change
from accounts.models import Membership, Team
from accounts.roles import Can, Role
from accounts.services.audit import audit
from core.errors import Conflict, NotFound, PermissionDenied
from core.realtime.access import tell_access_changed


def change_role(*, actor: Actor, user_uid: str, role: Role) -> None:
    """Give a member another role; at once, also for open pages and keys of theirs.

    Raise PermissionDenied for a role above the actor's own, Conflict for the last owner.
    """
    require(actor, Can.MEMBERS)
    with transaction.atomic():
        member = _locked(actor, user_uid)
        _require_rank(actor, Role(member.role))
        _require_rank(actor, role)
        if member.role == role:
            return
        _keep_an_owner(member)
        before = member.role
        Membership.objects.filter(pk=member.pk).update(role=role)
        audit(actor, "member.role_changed", member.user, before=before, after=role.value)
        transaction.on_commit(tell_access_changed, robust=True)


def remove_member(*, actor: Actor, user_uid: str) -> None:
    """Take a member out of the team; their keys stop working at once."""
    if user_uid != actor.user.uid:
        require(actor, Can.MEMBERS)
    with transaction.atomic():
        member = _locked(actor, user_uid)
        if user_uid != actor.user.uid:
            _require_rank(actor, Role(member.role))
        _keep_an_owner(member)
        member.delete()
        audit(actor, "member.removed", member.user, before=member.role)
        tell_member_change(actor, member.user, is_added=False, role=member.role)
        transaction.on_commit(tell_access_changed, robust=True)


def _locked(actor: Actor, user_uid: str) -> Membership:
    # The team's row is the lock: two owners who leave at once are asked one after the other.
    Team.objects.select_for_update().get(pk=actor.team.pk)
    member = Membership.objects.select_related("user").filter(team=actor.team, user__uid=user_uid).first()
    if member is None:
        raise NotFound
    return member


def _require_rank(actor: Actor, role: Role) -> None:
    if not may_hand_out(actor, role):
        raise PermissionDenied(_("Only an owner can do this to an owner."), permission=Can.MEMBERS.value)


def _keep_an_owner(member: Membership) -> None:
    if member.role != Role.OWNER:
        return
    others = Membership.objects.filter(team_id=member.team_id, role=Role.OWNER, user__is_active=True)
    if not others.exclude(pk=member.pk).exists():
        raise Conflict(
            "last_owner", _("A team needs an owner. Make somebody else an owner first, or delete the team.")
        )
