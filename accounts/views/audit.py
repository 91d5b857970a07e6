"""The audit log of a team: who changed what, when, from what to what."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.roles import Can
from accounts.selectors import audit_events, team_members
from accounts.web import TeamRequest, team_view

_PER_PAGE = 50


@team_view(can=Can.AUDIT_VIEW)
@require_GET
def audit_log(request: TeamRequest) -> HttpResponse:
    """Show the newest changes, narrowed by person and by words; older ones follow by key."""
    asked = {name: request.GET.get(name, "").strip()[:80] for name in ("person", "words", "before")}
    events = list(audit_events(request.actor, **asked)[: _PER_PAGE + 1])
    more = len(events) > _PER_PAGE
    context = {
        "events": events[:_PER_PAGE],
        "older": events[_PER_PAGE - 1].pk if more else None,
        "people": [member.user for member in team_members(request.actor)],
        "asked": asked,
    }
    return render(request, "accounts/audit_log.html", context)
