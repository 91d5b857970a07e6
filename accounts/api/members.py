"""`/members` and `/invitations`: who is in the team, and who is asked."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Listed
from accounts.api.serializers import (
    InvitationInput,
    InvitationSerializer,
    MemberChange,
    MemberSerializer,
    RoleQuery,
)
from accounts.models import Invitation
from accounts.roles import Can, Role
from accounts.selectors import member_by_uid, open_invitations, team_members
from accounts.services.invitations import invite, revoke_invitation
from accounts.services.memberships import change_role, remove_member
from core.api.idempotency import idempotent
from core.api.pagination import KeyCursor


class MemberViewSet(Listed):
    can = {
        "list": Can.TEAM_VIEW,
        "retrieve": Can.TEAM_VIEW,
        "partial_update": Can.MEMBERS,
        "destroy": Can.MEMBERS,
    }
    serializer_class = MemberSerializer
    pagination_class = KeyCursor
    queries: ClassVar[dict[str, Any]] = {"list": RoleQuery}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = team_members(actor)
        role = self.query.get("role") if self.action == "list" else None
        return rows.filter(role=role) if role else rows

    def retrieve(self, request: Request, uid: str) -> Response:
        """Return one member; the id is the person's."""
        return Response(MemberSerializer(member_by_uid(self.actor, uid)).data)

    @extend_schema(request=MemberChange, responses=MemberSerializer)
    def partial_update(self, request: Request, uid: str) -> Response:
        """Give a member another role; it holds at once."""
        change_role(actor=self.actor, user_uid=uid, role=Role(self.input(MemberChange)["role"]))
        return self.retrieve(request, uid)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        """Take a member out of the team; their keys and tokens stop working at once."""
        remove_member(actor=self.actor, user_uid=uid)
        return Response(status=204)


class InvitationViewSet(Listed):
    can = {
        "list": Can.MEMBERS,
        "retrieve": Can.MEMBERS,
        "create": Can.MEMBERS,
        "destroy": Can.MEMBERS,
    }
    serializer_class = InvitationSerializer

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        if self.action == "list":
            return open_invitations(actor)
        return Invitation.objects.for_team(actor.team).select_related("invited_by")

    def list(self, request: Request) -> Response:
        """List the invitations that were neither accepted nor revoked, the newest first."""
        return super().list(request)

    @extend_schema(request=InvitationInput, responses={201: InvitationSerializer})
    @idempotent()
    def create(self, request: Request) -> Response:
        """Invite an e-mail address; who is invited already gets a new mail and the new role."""
        values = self.input(InvitationInput)
        invitation = invite(actor=self.actor, email=values["email"], role=Role(values["role"]))
        return self.shown(invitation.uid, 201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uid: str) -> Response:
        """Make the link of an invitation worthless."""
        revoke_invitation(actor=self.actor, uid=uid)
        return Response(status=204)
