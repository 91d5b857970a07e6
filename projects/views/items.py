"""The caption editor: one picture, its caption, and the way to its neighbours."""

from __future__ import annotations

import re

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from core.errors import DomainError
from projects import selectors
from projects.services.items import delete_item, edit_item
from projects.views.narrowing import Narrowing
from projects.views.projects import to

_ITEM = re.compile(r"img_[0-9a-z]{26}\Z")


@team_view(can=Can.DATASET_VIEW)
@require_GET
def item(request: TeamRequest, uid: str) -> HttpResponse:
    """Show a picture with its caption beside it; to htmx, the editor alone."""
    narrowing = Narrowing.of(request.GET)
    found = selectors.item_with_neighbours(request.actor, uid, show=narrowing.show, search=narrowing.search)
    context = {
        "found": found,
        "item": found.item,
        "dataset": found.item.dataset,
        "project": found.item.dataset.project,
        "narrowing": narrowing.query,
    }
    template = "projects/item.html#editor" if request.headers.get("HX-Request") else "projects/item.html"
    return render(request, template, context)


@team_view(can=Can.DATASET_EDIT)
@require_POST
def item_caption(request: TeamRequest, uid: str) -> HttpResponse:
    """Save a caption: 204 to a script that saves while somebody types, else back to the editor or on to the next."""
    narrowing = Narrowing.posted(request.POST)
    try:
        edit_item(actor=request.actor, uid=uid, caption=request.POST.get("caption", ""))
    except DomainError as error:
        if error.status != 422 or request.headers.get("Accept") == "application/json":
            raise
        messages.error(request, error.message)
        return to("item", request.actor, narrowing.query, uid=uid)
    if request.headers.get("Accept") == "application/json":
        return HttpResponse(status=204)
    following = request.POST.get("next", "")
    return to("item", request.actor, narrowing.query, uid=following if _ITEM.match(following) else uid)


@team_view(can=Can.DATASET_EDIT)
@require_POST
def item_exclude(request: TeamRequest, uid: str) -> HttpResponse:
    """Leave a picture out of the next versions, or take it in again."""
    edit_item(actor=request.actor, uid=uid, excluded=request.POST.get("excluded") == "1")
    return to("item", request.actor, Narrowing.posted(request.POST).query, uid=uid)


@team_view(can=Can.DATASET_EDIT)
@require_POST
def item_delete(request: TeamRequest, uid: str) -> HttpResponse:
    """Delete a picture from its set and go on to its neighbour among those that are shown."""
    narrowing = Narrowing.posted(request.POST)
    found = selectors.item_with_neighbours(request.actor, uid, show=narrowing.show, search=narrowing.search)
    delete_item(actor=request.actor, uid=uid)
    messages.success(request, _("The picture is deleted. Frozen versions keep it."))
    beside = found.next or found.previous
    if beside:
        return to("item", request.actor, narrowing.query, uid=beside)
    return to("dataset", request.actor, narrowing.query, uid=found.item.dataset.uid)
