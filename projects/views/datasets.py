"""The page of a picture set: grid, bulk changes, versions."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from core.errors import DomainError
from projects import selectors
from projects.forms import BulkForm, NameForm
from projects.models import Dataset
from projects.services.datasets import create_dataset, delete_dataset, rename_dataset
from projects.services.items import Bulk, BulkAction, change_items
from projects.services.versions import freeze_dataset
from projects.views.narrowing import Narrowing
from projects.views.projects import to

_VERSIONS_PER_PAGE = 20


@team_view(can=Can.DATASET_EDIT)
@require_http_methods(["GET", "POST"])
def dataset_create(request: TeamRequest, uid: str) -> HttpResponse:
    """Make an empty picture set in a project."""
    project = selectors.project(request.actor, uid)
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = create_dataset(actor=request.actor, project_uid=uid, name=form.cleaned_data["name"])
        except DomainError as error:
            form.refuse(error)
        else:
            return to("dataset", request.actor, uid=made.uid)
    status = 422 if request.method == "POST" else 200
    return render(request, "projects/dataset_form.html", {"form": form, "project": project}, status=status)


@team_view(can=Can.DATASET_VIEW)
@require_GET
def dataset(request: TeamRequest, uid: str) -> HttpResponse:
    """Show a picture set; to htmx, the next pictures (`?after=`) or the body with fresh numbers (`?part=body`)."""
    found = selectors.dataset(request.actor, uid)
    return _page(request, found)


def _page(request: TeamRequest, found: Dataset) -> HttpResponse:
    actor = request.actor
    narrowing = Narrowing.of(request.GET)
    context: dict[str, Any] = {
        "dataset": found,
        "project": found.project,
        "page": selectors.item_page(
            actor,
            found,
            after=request.GET.get("after", "")[:40],
            show=narrowing.show,
            search=narrowing.search,
        ),
        "show": narrowing.show,
        "search": narrowing.search,
        "narrowing": narrowing.query,
        # What the page offers; the services decide.
        "is_open": actor.can(Can.DATASET_EDIT) and found.project.archived_at is None,
    }
    if request.GET.get("after"):
        return render(request, "projects/dataset.html#tiles", context)
    context["health"] = selectors.dataset_health(actor, found)
    context["total"] = selectors.items(actor, found, show=narrowing.show, search=narrowing.search).count()
    if request.GET.get("part") == "body":
        context["fresh"] = True
        return render(request, "projects/dataset.html#body", context)
    versions = selectors.versions(actor, found).select_related("created_by")
    context["versions"] = Paginator(versions, _VERSIONS_PER_PAGE).get_page(request.GET.get("page"))
    context["unfinished"] = list(
        selectors.own_unfinished_uploads(actor, found).values_list("filename", flat=True)
    )
    context["checking"] = selectors.uploads_in_check(actor, found).count()
    return render(request, "projects/dataset.html", context)


@team_view(can=Can.DATASET_EDIT)
@require_http_methods(["GET", "POST"])
def dataset_change(request: TeamRequest, uid: str) -> HttpResponse:
    """Rename a picture set."""
    found = selectors.dataset(request.actor, uid)
    form = NameForm(request.POST or None, initial={"name": found.name})
    if request.method == "POST" and form.is_valid():
        try:
            rename_dataset(actor=request.actor, uid=uid, name=form.cleaned_data["name"])
        except DomainError as error:
            form.refuse(error)
        else:
            return to("dataset", request.actor, uid=uid)
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "project": found.project, "dataset": found}
    return render(request, "projects/dataset_form.html", context, status=status)


@team_view(can=Can.DATASET_EDIT)
@require_POST
def dataset_delete(request: TeamRequest, uid: str) -> HttpResponse:
    """Delete a picture set that no training used."""
    found = selectors.dataset(request.actor, uid)
    delete_dataset(actor=request.actor, uid=uid)
    messages.success(request, _("“%(name)s” is deleted.") % {"name": found.name})
    return to("project", request.actor, uid=found.project.uid)


@team_view(can=Can.DATASET_EDIT)
@require_POST
def dataset_freeze(request: TeamRequest, uid: str) -> HttpResponse:
    """Freeze the picture set as it is now and go on to a new training, or stay."""
    try:
        version = freeze_dataset(actor=request.actor, uid=uid)
    except DomainError as error:
        if error.status != 422:
            raise
        messages.error(request, error.message)
        return to("dataset", request.actor, uid=uid)
    if request.POST.get("next") == "stay":
        messages.success(
            request,
            _("Version %(number)s holds these %(count)s pictures for good.")
            % {"number": version.number, "count": version.item_count},
        )
        return to("dataset", request.actor, uid=uid)
    address = reverse("training:job_create", kwargs={"slug": request.actor.team.slug})
    return HttpResponseRedirect(f"{address}?{urlencode({'version': version.uid})}", status=303)


@team_view(can=Can.DATASET_EDIT)
@require_POST
def dataset_bulk(request: TeamRequest, uid: str) -> HttpResponse:
    """Change the selected pictures, or all that the narrowing shows."""
    found = selectors.dataset(request.actor, uid)
    posted = request.POST.copy()
    # One button applies what the list of changes of captions has chosen.
    if posted.get("action") == "text":
        posted["action"] = posted.get("choice", "")
    form = BulkForm(posted)
    narrowing = Narrowing.of(request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose what to do first."))
        return _back(request, found, narrowing)
    values = form.cleaned_data
    if values["everything"]:
        shown = selectors.items(request.actor, found, show=narrowing.show, search=narrowing.search)
        uids = list(shown.values_list("uid", flat=True))
    else:
        uids = request.POST.getlist("items") + [uid for uid in values["uids"].split(",") if uid]
    bulk = Bulk(
        action=BulkAction(values["action"]),
        uids=uids,
        text=values["text"],
        replacement=values["replacement"],
    )
    try:
        count = change_items(actor=request.actor, dataset_uid=uid, bulk=bulk)
    except DomainError as error:
        if error.status != 422:
            raise
        messages.error(request, error.message)
    else:
        messages.success(request, _what_was_done(bulk.action, count))
    return _back(request, found, narrowing)


def _what_was_done(action: BulkAction, count: int) -> str:
    if action is BulkAction.DELETE:
        words = ngettext("%(n)s picture deleted.", "%(n)s pictures deleted.", count)
    else:
        words = ngettext("%(n)s picture changed.", "%(n)s pictures changed.", count)
    return words % {"n": count}


def _back(request: TeamRequest, found: Dataset, narrowing: Narrowing) -> HttpResponse:
    return to("dataset", request.actor, narrowing.query, uid=found.uid)
