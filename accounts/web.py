"""`@team_view` and `@account_view`: the two doors of the pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from accounts.access import TwoFactorRequired, actor_for
from accounts.actor import Actor, require
from accounts.roles import Can


class TeamRequest(HttpRequest):
    """A request inside a team: `actor` says who, in which team, with which rights."""

    actor: Actor


TeamView = Callable[..., HttpResponseBase]


def team_view(*, can: Can) -> Callable[[TeamView], TeamView]:
    """Open a page of the team in the address to members with `can`; a stranger gets 404, a low role 403."""

    def decorate(view: TeamView) -> TeamView:
        @wraps(view)
        def wrapper(request: Any, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                request.actor = actor_for(request.user, slug)
            except TwoFactorRequired as error:
                if request.method != "GET" or request.headers.get("HX-Request"):
                    raise
                messages.warning(request, str(error))
                return redirect("mfa_index")
            require(request.actor, can)
            return view(request, *args, **kwargs)

        wrapper.door = "team"  # type: ignore[attr-defined]
        wrapper.can = can  # type: ignore[attr-defined]
        return wrapper

    return decorate


def account_view(view: TeamView) -> TeamView:
    """Open a page that belongs to the person who is logged in, in no team."""
    view.door = "account"  # type: ignore[attr-defined]
    return view
