"""A team's settings: its name and its members."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from accounts.actor import require
from accounts.forms import TeamForm
from accounts.roles import Can
from accounts.selectors import team_members
from accounts.services.teams import rename_team
from accounts.web import TeamRequest, team_view


@team_view(can=Can.TEAM_VIEW)
@require_http_methods(["GET", "POST"])
def team_settings(request: TeamRequest) -> HttpResponse:
    """Show the team; rename it."""
    actor = request.actor
    if request.method == "POST":
        require(actor, Can.TEAM_MANAGE)
    form = TeamForm(request.POST or None, initial={"name": actor.team.name})
    if request.method == "GET" or not form.is_valid():
        status = 200 if request.method == "GET" else 422
        return render(request, "accounts/team_settings.html", {"form": form}, status=status)
    rename_team(actor=actor, name=form.cleaned_data["name"])
    messages.success(request, _("Saved."))
    return HttpResponseRedirect(reverse("accounts:team_settings", args=[actor.team.slug]), status=303)


@team_view(can=Can.TEAM_VIEW)
@require_GET
def member_list(request: TeamRequest) -> HttpResponse:
    """List who belongs to the team, and as what."""
    return render(request, "accounts/member_list.html", {"members": team_members(request.actor)})
