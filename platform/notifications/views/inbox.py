"""A person's own list of what happened, the bell above every page, and how they want to hear of it."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import User
from accounts.web import account_view
from notifications.forms import ChoicesForm
from notifications.selectors import choices_of, notifications_of
from notifications.services.inbox import choose, mark_all_read, mark_read

PAGE = 30
IN_THE_MENU = 6


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


@account_view
@require_GET
def inbox(request: HttpRequest) -> HttpResponse:
    """Show the whole list."""
    rows = notifications_of(_person(request))
    context = {
        "page": Paginator(rows, PAGE).get_page(request.GET.get("page")),
        "unread": rows.filter(read_at=None).count(),
    }
    return render(request, "notifications/list.html", context)


@account_view
@require_GET
def bell(request: HttpRequest) -> HttpResponse:
    """Draw what the bell holds: the number and the newest lines."""
    rows = notifications_of(_person(request))
    context = {"rows": rows[:IN_THE_MENU], "unread": rows.filter(read_at=None).count()}
    return render(request, "notifications/_bell.html", context)


@account_view
@require_http_methods(["GET", "POST"])
def opened(request: HttpRequest, uid: str) -> HttpResponse:
    """Go to what a line is about, and mark it as read."""
    row = mark_read(person=_person(request), uid=uid)
    return HttpResponseRedirect(row.path or reverse("notifications:list"), status=303)


@account_view
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark the whole list as read."""
    mark_all_read(person=_person(request))
    return HttpResponseRedirect(reverse("notifications:list"), status=303)


@account_view
@require_http_methods(["GET", "POST"])
def preferences(request: HttpRequest) -> HttpResponse:
    """Choose when mail comes about what."""
    person = _person(request)
    form = ChoicesForm(choices_of(person), request.POST or None)
    if request.method == "POST" and form.is_valid():
        choose(person=person, choices=form.choices())
        messages.success(request, _("Saved."))
        return HttpResponseRedirect(reverse("notifications:preferences"), status=303)
    status = 422 if form.errors else 200
    return render(request, "notifications/preferences.html", {"form": form}, status=status)
