"""The root address: on to the person's team."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.access import teams_of
from accounts.models import User
from accounts.web import account_view


@account_view
def home(request: HttpRequest) -> HttpResponse:
    """Send the person to their first team."""
    assert isinstance(request.user, User)
    teams = teams_of(request.user)
    return redirect("training:home", slug=teams[0].slug) if teams else redirect("accounts:team_create")
