"""The list of projects and the page of one project."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actor import Actor
from accounts.roles import Can
from accounts.selectors import team_members
from accounts.web import TeamRequest, team_view
from core.errors import DomainError
from projects import selectors
from projects.forms import ProjectForm, VisibilityForm
from projects.models import Project
from projects.services.projects import archive_project, change_project, change_visibility, create_project

_PER_PAGE = 24


def to(name: str, actor: Actor, query: str = "", **kwargs: Any) -> HttpResponseRedirect:
    """Send the browser on with GET to a page of the actor's team."""
    address = reverse(f"projects:{name}", kwargs={"slug": actor.team.slug, **kwargs})
    return HttpResponseRedirect(f"{address}?{query}" if query else address, status=303)


@team_view(can=Can.PROJECT_VIEW)
@require_GET
def project_list(request: TeamRequest) -> HttpResponse:
    """List the team's projects, or those in the archive."""
    archived = request.GET.get("archived") == "1"
    pages = Paginator(selectors.projects(request.actor, archived=archived), _PER_PAGE)
    context = {"page": pages.get_page(request.GET.get("page")), "archived": archived}
    return render(request, "projects/project_list.html", context)


@team_view(can=Can.PROJECT_EDIT)
@require_http_methods(["GET", "POST"])
def project_create(request: TeamRequest) -> HttpResponse:
    """Make a project."""
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            project = create_project(actor=request.actor, **form.cleaned_data)
        except DomainError as error:
            form.refuse(error)
        else:
            return to("project", request.actor, uid=project.uid)
    status = 422 if request.method == "POST" else 200
    return render(request, "projects/project_form.html", {"form": form}, status=status)


@team_view(can=Can.PROJECT_VIEW)
@require_GET
def project(request: TeamRequest, uid: str) -> HttpResponse:
    """Show a project: picture sets, trainings, models."""
    actor = request.actor
    found: Project = selectors.project(actor, uid)
    context = {
        "project": found,
        "datasets": selectors.datasets(actor, found) if actor.can(Can.DATASET_VIEW) else [],
        "models": selectors.lora_models(actor, found)[:12] if actor.can(Can.MODEL_VIEW) else [],
    }
    return render(request, "projects/project.html", context)


@team_view(can=Can.PROJECT_EDIT)
@require_http_methods(["GET", "POST"])
def project_change(request: TeamRequest, uid: str) -> HttpResponse:
    """Rename or describe a project."""
    found = selectors.project(request.actor, uid)
    form = ProjectForm(request.POST or None, initial={"name": found.name, "description": found.description})
    if request.method == "POST" and form.is_valid():
        try:
            change_project(actor=request.actor, uid=uid, **form.cleaned_data)
        except DomainError as error:
            form.refuse(error)
        else:
            return to("project", request.actor, uid=uid)
    status = 422 if request.method == "POST" else 200
    return render(request, "projects/project_form.html", {"form": form, "project": found}, status=status)


@team_view(can=Can.PROJECT_ALL)
@require_http_methods(["GET", "POST"])
def project_visibility(request: TeamRequest, uid: str) -> HttpResponse:
    """Restrict a project to some members, or open it to the team."""
    actor = request.actor
    found = selectors.project(actor, uid)
    people = [member.user for member in team_members(actor)]
    chosen = {
        "is_restricted": "1" if found.is_restricted else "0",
        "members": list(selectors.project_members(actor, found).values_list("user__uid", flat=True)),
    }
    form = VisibilityForm(people, request.POST or None, initial=chosen)
    if request.method == "POST" and form.is_valid():
        change_visibility(
            actor=actor,
            uid=uid,
            is_restricted=form.cleaned_data["is_restricted"],
            user_uids=form.cleaned_data["members"],
        )
        messages.success(request, _("Saved. It holds at once."))
        return to("project", actor, uid=uid)
    status = 422 if request.method == "POST" else 200
    return render(
        request, "projects/project_visibility.html", {"form": form, "project": found}, status=status
    )


@team_view(can=Can.PROJECT_EDIT)
@require_POST
def project_archive(request: TeamRequest, uid: str) -> HttpResponse:
    """Put a project into the archive, or take it out."""
    archived = request.POST.get("archived") != "0"
    found = archive_project(actor=request.actor, uid=uid, archived=archived)
    if archived:
        messages.success(request, _("“%(name)s” is in the archive now.") % {"name": found.name})
        return to("project_list", request.actor)
    return to("project", request.actor, uid=uid)
