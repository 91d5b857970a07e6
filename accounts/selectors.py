"""Read people, members and keys for the pages."""

from __future__ import annotations

from django.db.models import CharField, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, NullIf

from accounts.actor import Actor, require
from accounts.models import ApiKey, AuditEvent, Forgotten, Invitation, Membership, Team, TeamExport, User
from accounts.roles import Can, Role
from core.errors import NotFound
from core.retention import name_of

REPORT_LINES = 60


def team_members(actor: Actor) -> QuerySet[Membership]:
    """Return the members of the actor's team with their people, the oldest first."""
    return Membership.objects.filter(team=actor.team).select_related("user").order_by("created_at", "pk")


def member_by_uid(actor: Actor, user_uid: str) -> Membership:
    """Return a member of the actor's team; raise NotFound."""
    found: Membership | None = team_members(actor).filter(user__uid=user_uid).first()
    if found is None:
        raise NotFound
    return found


def team_api_keys(actor: Actor) -> QuerySet[ApiKey]:
    """Return the keys the actor may see, with their makers: valid ones first, then the newest.

    That is all of the team's for who may see everybody's, else one's own.
    """
    rows = ApiKey.objects.for_team(actor.team).select_related("created_by")
    if not actor.can(Can.API_KEYS_ALL):
        rows = rows.filter(created_by=actor.user)
    return rows.order_by(F("revoked_at").desc(nulls_first=True), "-created_at")


def open_invitations(actor: Actor) -> QuerySet[Invitation]:
    """Return the invitations of the actor's team that were neither accepted nor revoked, the newest first."""
    rows = Invitation.objects.for_team(actor.team).filter(accepted_at=None, revoked_at=None)
    return rows.select_related("invited_by").order_by("-created_at")


def heirs_of(actor: Actor) -> QuerySet[Membership]:
    """Return the members who could become the owner of the actor's team."""
    return team_members(actor).filter(user__is_active=True).exclude(user=actor.user)


def deleted_teams(person: User) -> QuerySet[Team]:
    """Return the deleted teams that `person` owns and can still restore."""
    return Team.objects.filter(
        memberships__user=person, memberships__role=Role.OWNER, deleted_at__isnull=False
    ).order_by("-deleted_at")


def audit_events(
    actor: Actor, *, person: str = "", words: str = "", before: str = ""
) -> QuerySet[AuditEvent]:
    """Return the team's changes, the newest first, each with the name of `who` did it (one query)."""
    require(actor, Can.AUDIT_VIEW)
    who = User.objects.filter(pk=OuterRef("user_id"))
    rows = AuditEvent.objects.for_team(actor.team).annotate(
        who=Subquery(
            who.annotate(shown=Coalesce(NullIf("name", Value("")), "email", output_field=CharField())).values(
                "shown"
            )[:1]
        )
    )
    if person:
        rows = rows.filter(user_id__in=User.objects.filter(uid=person).values("pk"))
    if words:
        rows = rows.filter(Q(verb__icontains=words) | Q(subject_name__icontains=words) | Q(subject_uid=words))
    if before.isdecimal() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    return rows.order_by("-pk")


def team_exports(actor: Actor) -> QuerySet[TeamExport]:
    """Return the exports of the actor's team, the newest first."""
    require(actor, Can.EXPORT)
    return TeamExport.objects.for_team(actor.team).select_related("created_by").order_by("-created_at")


def forgotten(actor: Actor) -> list[tuple[Forgotten, str]]:
    """Return the last lines of the report of retention, each with what it is called, the newest first (one query)."""
    require(actor, Can.TEAM_MANAGE)
    rows = Forgotten.objects.for_team(actor.team).order_by("-day", "what")[:REPORT_LINES]
    return [(row, name_of(row.what)) for row in rows]
