"""A team's own pages: make one, name it, hand it over, delete and restore it."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.actor import require
from accounts.forms import TeamForm
from accounts.models import User
from accounts.roles import Can
from accounts.selectors import heirs_of
from accounts.services.teams import (
    KEPT_FOR,
    change_team,
    create_team,
    delete_team,
    restore_team,
    transfer_team,
)
from accounts.web import TeamRequest, account_view, team_view


@account_view
@require_http_methods(["GET", "POST"])
def team_create(request: HttpRequest) -> HttpResponse:
    """Make another team; also where a person without one begins."""
    assert isinstance(request.user, User)
    form = TeamForm(request.POST or None)
    if request.method == "GET" or not form.is_valid():
        status = 200 if request.method == "GET" else 422
        return render(request, "accounts/team_form.html", {"form": form}, status=status)
    actor = create_team(owner=request.user, name=form.cleaned_data["name"])
    return HttpResponseRedirect(reverse("training:home", args=[actor.team.slug]), status=303)


@team_view(can=Can.TEAM_VIEW)
@require_http_methods(["GET", "POST"])
def team_settings(request: TeamRequest) -> HttpResponse:
    """Show the team; change its name and what it asks of its members."""
    actor = request.actor
    if request.method == "POST":
        require(actor, Can.TEAM_MANAGE)
    team = actor.team
    form = TeamForm(
        request.POST or None, initial={"name": team.name, "require_two_factor": team.require_two_factor}
    )
    if request.method == "GET" or not form.is_valid():
        status = 200 if request.method == "GET" else 422
        context = {
            "form": form,
            "heirs": heirs_of(actor),
            "days_kept": KEPT_FOR.days,
            "deleting": "delete" in request.GET,
        }
        return render(request, "accounts/team_settings.html", context, status=status)
    change_team(
        actor=actor,
        name=form.cleaned_data["name"],
        require_two_factor=form.cleaned_data["require_two_factor"],
    )
    messages.success(request, _("Saved."))
    return HttpResponseRedirect(reverse("accounts:team_settings", args=[team.slug]), status=303)


@team_view(can=Can.TEAM_OWN)
@require_POST
@reauthentication_required(app="allauth.account")
def team_transfer(request: TeamRequest) -> HttpResponse:
    """Hand the team over to another member."""
    transfer_team(actor=request.actor, user_uid=request.POST.get("user", ""))
    messages.success(request, _("The team has a new owner. You are an admin now."))
    return HttpResponseRedirect(reverse("accounts:team_settings", args=[request.actor.team.slug]), status=303)


@team_view(can=Can.TEAM_OWN)
@require_POST
@reauthentication_required(app="allauth.account")
def team_delete(request: TeamRequest) -> HttpResponse:
    """Close the team; its owner can restore it for a while."""
    delete_team(actor=request.actor, name=request.POST.get("name", ""))
    messages.success(
        request,
        _("The team is deleted. For %(n)s days you can restore it here.") % {"n": KEPT_FOR.days},
    )
    return HttpResponseRedirect(reverse("accounts:profile"), status=303)


@account_view
@require_POST
def team_restore(request: HttpRequest, uid: str) -> HttpResponse:
    """Open a deleted team of one's own again."""
    assert isinstance(request.user, User)
    team = restore_team(owner=request.user, uid=uid)
    messages.success(request, _("The team is back."))
    return HttpResponseRedirect(reverse("training:home", args=[team.slug]), status=303)
