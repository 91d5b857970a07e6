"""What a team used."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing.models import UsageKind
from billing.selectors import every_day, month_from, usage_groups, usage_months


@team_view(can=Can.USAGE_VIEW)
@require_GET
def usage(request: TeamRequest) -> HttpResponse:
    """Show compute by month, and one month by day, member, project and kind."""
    month = month_from(request.GET.get("month", "")) or timezone.now()
    groups = usage_groups(request.actor, month)
    context = {
        "months": usage_months(request.actor),
        "month": month,
        "days": every_day(groups["day"], month),
        "members": groups["member"],
        "projects": groups["project"],
        "kinds": [replace(row, label=str(UsageKind(row.label).label)) for row in groups["kind"]],
    }
    return render(request, "billing/usage.html", context)
