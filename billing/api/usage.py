"""`/usage`: what was used, by whom and for what."""

from __future__ import annotations

import csv
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import Choice, Query, TeamViewSet
from accounts.roles import Can
from billing.models import UsageEntry
from billing.selectors import MONTH, month_from, usage_groups, usage_months, usage_rows

GROUPS = ("month", "day", "member", "project", "kind")


class MonthQuery(Query):
    month = serializers.RegexField(
        f"^{MONTH.pattern}$", max_length=7, required=False, help_text="As 2026-11. Default: this one."
    )


class UsageQuery(Query):
    group_by = Choice([(name, name) for name in GROUPS], required=False, help_text="Default: month.")
    month = serializers.RegexField(
        f"^{MONTH.pattern}$",
        max_length=7,
        required=False,
        help_text="As 2026-11; for all but month. Default: this one.",
    )


class UsageRowResult(serializers.Serializer[Any]):
    group = serializers.CharField(
        help_text="The month or day, the member's address, the project's name or the kind."
    )
    useful_seconds = serializers.FloatField()
    lost_seconds = serializers.FloatField(help_text="Work that a fault of ours threw away.")
    trainings = serializers.IntegerField()


class UsageResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    group_by = serializers.ChoiceField(GROUPS)
    data = UsageRowResult(many=True)  # type: ignore[assignment]


class UsageViewSet(TeamViewSet):
    can = {"usage": Can.USAGE_VIEW, "export": Can.USAGE_VIEW}
    serializer_class = UsageResult
    queries: ClassVar[dict[str, Any]] = {"usage": UsageQuery, "export": MonthQuery}
    binary = ("export",)

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return UsageEntry.objects.for_team(actor.team)

    @extend_schema(operation_id="usage", responses=UsageResult)
    def usage(self, request: Request) -> Response:
        """Sum compute seconds up by month (the last twelve), or a month by day, member, project or kind."""
        group = self.query.get("group_by", "month")
        if group == "month":
            rows = [(f"{month:%Y-%m}", row) for month, row in usage_months(self.actor)]
        else:
            month = month_from(self.query.get("month", ""))
            rows = [(row.label, row) for row in usage_groups(self.actor, month)[group]]
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

    @extend_schema(operation_id="usage_export", responses={(200, "text/csv"): OpenApiTypes.STR})
    def export(self, request: Request) -> HttpResponse:
        """Download a month's usage by day, member, project and kind as CSV."""
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="usage.csv"'
        lines = csv.writer(response)
        lines.writerow(["day", "member", "project", "kind", "useful_seconds", "lost_seconds", "trainings"])
        for day, member, project, kind, row in usage_rows(
            self.actor, month_from(self.query.get("month", ""))
        ):
            lines.writerow([day, _plain(member), _plain(project), kind, row.useful, row.lost, row.trainings])
        return response


def _plain(text: str) -> str:
    """Keep a name from being read as a formula by a spreadsheet."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
