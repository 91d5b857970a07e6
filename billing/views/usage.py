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
from billing.selectors import month_from, usage_by, usage_days, usage_months


@team_view(can=Can.USAGE_VIEW)
@require_GET
def usage(request: TeamRequest) -> HttpResponse:
    """Show compute by month, and one month by day, member, project and kind."""
    month = month_from(request.GET.get("month", "")) or timezone.now()
    context = {
        "months": usage_months(request.actor),
        "month": month,
        "days": usage_days(request.actor, month),
        "members": usage_by(request.actor, "member", month),
        "projects": usage_by(request.actor, "project", month),
        "kinds": [
            replace(row, label=str(UsageKind(row.label).label))
            for row in usage_by(request.actor, "kind", month)
        ],
    }
    return render(request, "billing/usage.html", context)
