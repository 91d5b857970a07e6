"""Uploads of the pages: tus for the script, a plain form without one, and the results of both."""

from __future__ import annotations

from collections import Counter

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from projects import selectors, tus
from projects.models import Upload, UploadedFile
from projects.services.uploads import receive_file
from projects.views.projects import to

_MOST_AT_ONCE = 100


@team_view(can=Can.DATASET_EDIT)
@require_http_methods(["POST", "OPTIONS"])
def upload_create(request: TeamRequest, uid: str) -> HttpResponse:
    """Announce an upload to the picture set (tus)."""
    if request.method == "OPTIONS":
        return tus.options()
    selectors.dataset(request.actor, uid)
    slug = request.actor.team.slug
    return tus.create(
        request,
        request.actor,
        uid,
        lambda upload: reverse("projects:upload", kwargs={"slug": slug, "uid": upload.uid}),
    )


@team_view(can=Can.DATASET_EDIT)
@require_http_methods(["HEAD", "PATCH", "DELETE", "OPTIONS"])
def upload(request: TeamRequest, uid: str) -> HttpResponse:
    """Say where an upload stands, take more bytes, or give it up (tus)."""
    if request.method == "HEAD":
        return tus.status(request, request.actor, uid)
    if request.method == "PATCH":
        return tus.receive(request, request.actor, uid)
    if request.method == "DELETE":
        return tus.remove(request, request.actor, uid)
    return tus.options()


@team_view(can=Can.DATASET_EDIT)
@require_POST
def upload_form(request: TeamRequest, uid: str) -> HttpResponse:
    """Take files from a plain form."""
    selectors.dataset(request.actor, uid)
    files = request.FILES.getlist("files")
    for file in files:
        receive_file(
            actor=request.actor,
            dataset_uid=uid,
            filename=file.name or "upload",
            size=file.size or 0,
            source=file,
        )
    if not files:
        messages.error(request, _("Choose files first."))
    else:
        words = ngettext(
            "%(n)s file is being checked. Reload in a moment to see it.",
            "%(n)s files are being checked. Reload in a moment to see them.",
            len(files),
        )
        messages.success(request, words % {"n": len(files)})
    return to("dataset", request.actor, uid=uid)


@team_view(can=Can.DATASET_VIEW)
@require_GET
def upload_results(request: TeamRequest, uid: str) -> HttpResponse:
    """Tell what became of the uploads named by `?uids=`, file by file; without it, which are being checked."""
    dataset = selectors.dataset(request.actor, uid)
    uids = request.GET.get("uids")
    if uids is None:
        found = selectors.uploads_in_check(request.actor, dataset)[:_MOST_AT_ONCE]
    else:
        named = uids.split(",")[:_MOST_AT_ONCE]
        found = selectors.uploads(request.actor).filter(dataset=dataset, uid__in=named)
    return JsonResponse({"uploads": [_result(upload) for upload in found]})


@team_view(can=Can.DATASET_VIEW)
@require_GET
def upload_log(request: TeamRequest, uid: str) -> HttpResponse:
    """List the files of the last uploads that were not simply added, with the reason."""
    dataset = selectors.dataset(request.actor, uid)
    context = {
        "dataset": dataset,
        "project": dataset.project,
        "files": selectors.upload_problems(request.actor, dataset)[:300],
    }
    return render(request, "projects/upload_log.html", context)


def _result(upload: Upload) -> dict[str, object]:
    files: list[UploadedFile] = list(upload.files.all())
    return {
        "uid": upload.uid,
        "filename": upload.filename,
        "size": upload.size,
        "state": upload.state,
        # The captions of a table are counted by its rows.
        "counts": Counter(_count_as(file) for file in files if file.code != "captions_applied"),
        # A zip may have thousands; the ones that need a word come with it.
        "files": [
            {
                "filename": file.filename,
                "outcome": file.outcome,
                "code": file.code,
                "label": file.get_outcome_display(),
                "message": file.reason,
            }
            for file in files
            if file.code not in selectors.WENT_WELL or len(files) == 1
        ][:200],
    }


def _count_as(file: UploadedFile) -> str:
    return "waiting" if file.code == "caption_waiting" else file.outcome
