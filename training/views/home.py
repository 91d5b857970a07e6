"""The home of a team, and the base models it can train on."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing.services.usage import seconds_this_month
from training import selectors
from training.activity import recent_activity


@team_view(can=Can.TEAM_VIEW)
@require_GET
def home(request: TeamRequest) -> HttpResponse:
    """Show what runs, what was made, and what to do first."""
    actor = request.actor
    if not actor.can(Can.TRAINING_VIEW):
        return render(request, "training/home_billing.html", {"seconds": seconds_this_month(actor.team)})
    jobs = selectors.active_jobs(actor)
    if request.GET.get("part") == "active":
        return render(request, "training/home.html#active", {"active": jobs})
    recent = selectors.recent_jobs(actor)
    context = {
        "active": jobs,
        "recent": recent,
        "versions": selectors.recent_versions(actor),
        "seconds": seconds_this_month(actor.team),
        "counts": selectors.job_counts(actor),
        "steps": None if jobs or recent else selectors.first_steps(actor),
    }
    return render(request, "training/home.html", context)


@team_view(can=Can.TEAM_VIEW)
@require_GET
def activity(request: TeamRequest) -> HttpResponse:
    """Tell what happened lately."""
    return render(request, "training/activity.html", {"activity": recent_activity(request.actor)})


@team_view(can=Can.TEAM_VIEW)
@require_GET
def job_pill(request: TeamRequest) -> HttpResponse:
    """Give the top bar how many trainings run, or nothing."""
    may = request.actor.can(Can.TRAINING_VIEW)
    return render(
        request,
        "training/job_pill.html",
        {"count": selectors.live_count(request.actor) if may else 0},
    )


@team_view(can=Can.TRAINING_VIEW)
@require_GET
def foundation_list(request: TeamRequest) -> HttpResponse:
    """List the base models of this installation."""
    return render(request, "training/foundation_list.html", {"models": selectors.foundation_models()})
