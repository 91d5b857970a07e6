"""Read people, members and keys for the pages."""

from __future__ import annotations

from django.db.models import F, QuerySet

from accounts.actor import Actor
from accounts.models import ApiKey, Membership


def team_members(actor: Actor) -> QuerySet[Membership]:
    """Return the members of the actor's team with their people, the oldest first."""
    return Membership.objects.filter(team=actor.team).select_related("user").order_by("created_at", "pk")


def team_api_keys(actor: Actor) -> QuerySet[ApiKey]:
    """Return the keys of the actor's team with their makers: valid ones first, then the newest."""
    rows = ApiKey.objects.for_team(actor.team).select_related("created_by")
    return rows.order_by(F("revoked_at").desc(nulls_first=True), "-created_at")
