"""What a team's data does: how long things are kept, exports, and the way out."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.selectors import forgotten, team_exports
from accounts.services.exports import KEPT_FOR, export_link, request_export
from accounts.services.teams import KEPT_FOR as TEAM_KEPT_FOR
from accounts.web import TeamRequest, team_view
from core.retention import kept_for


@team_view(can=Can.TEAM_MANAGE)
@require_GET
def privacy(request: TeamRequest) -> HttpResponse:
    """Show what is kept how long, and the exports."""
    actor = request.actor
    context = {
        "kept": kept_for(actor.team),
        "forgotten": forgotten(actor),
        "may_export": actor.can(Can.EXPORT),
        "exports": team_exports(actor) if actor.can(Can.EXPORT) else [],
        "export_days": KEPT_FOR.days,
        "team_days": TEAM_KEPT_FOR.days,
    }
    return render(request, "accounts/team_privacy.html", context)


@team_view(can=Can.EXPORT)
@require_POST
@reauthentication_required(app="allauth.account")
def export_create(request: TeamRequest) -> HttpResponse:
    """Have everything the team owns put into one zip."""
    request_export(actor=request.actor)
    messages.success(request, _("The export is being made. You get a mail when it is ready."))
    return HttpResponseRedirect(reverse("accounts:privacy", args=[request.actor.team.slug]), status=303)


@team_view(can=Can.EXPORT)
@require_GET
def export_download(request: TeamRequest, uid: str) -> HttpResponse:
    """Lead to the zip by a link that lasts five minutes."""
    return HttpResponseRedirect(export_link(actor=request.actor, uid=uid))
