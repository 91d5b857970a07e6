"""`/usage`: what was used, by whom and for what."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Choice, Query, TeamViewSet
from accounts.roles import Can
from billing.models import UsageEntry
from billing.selectors import MONTH, month_from, usage_by, usage_months

GROUPS = ("month", "member", "project")


class UsageQuery(Query):
    group_by = Choice([(name, name) for name in GROUPS], required=False, help_text="Default: month.")
    month = serializers.RegexField(
        f"^{MONTH.pattern}$",
        max_length=7,
        required=False,
        help_text="As 2026-11; for member and project. Default: this one.",
    )


class UsageRowResult(serializers.Serializer[Any]):
    group = serializers.CharField(help_text="The month, the member's address or the project's name.")
    useful_seconds = serializers.FloatField()
    lost_seconds = serializers.FloatField(help_text="Work that a fault of ours threw away.")
    trainings = serializers.IntegerField()


class UsageResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    group_by = serializers.ChoiceField(GROUPS)
    data = UsageRowResult(many=True)  # type: ignore[assignment]


class UsageViewSet(TeamViewSet):
    can = {"usage": Can.USAGE_VIEW}
    serializer_class = UsageResult
    queries: ClassVar[dict[str, Any]] = {"usage": UsageQuery}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return UsageEntry.objects.for_team(actor.team)

    @extend_schema(operation_id="usage", responses=UsageResult)
    def usage(self, request: Request) -> Response:
        """Sum compute seconds up by month (the last twelve), or a month by member or project."""
        group = self.query.get("group_by", "month")
        if group == "month":
            rows = [(f"{month:%Y-%m}", row) for month, row in usage_months(self.actor)]
        else:
            month = month_from(self.query.get("month", ""))
            rows = [(row.label, row) for row in usage_by(self.actor, group, month)]
        data = [
            {
                "group": label,
                "useful_seconds": row.useful,
                "lost_seconds": row.lost,
                "trainings": row.trainings,
            }
            for label, row in rows
        ]
        return Response({"object": "usage", "group_by": group, "data": data})
