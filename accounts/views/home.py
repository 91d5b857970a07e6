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
    return redirect("training:home", slug=teams_of(request.user)[0].slug)
