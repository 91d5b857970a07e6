"""Stored files: pictures, thumbnails and downloads, reached only through rows of the team."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from projects import selectors
from projects.serving import serve_download, serve_picture, serve_thumbnail


@team_view(can=Can.PROJECT_VIEW)
@require_safe
def picture(request: TeamRequest, uid: str) -> HttpResponseBase:
    """Show a picture as it is stored."""
    return serve_picture(request, selectors.picture_blob(request.actor, uid))


@team_view(can=Can.PROJECT_VIEW)
@require_safe
def thumbnail(request: TeamRequest, uid: str) -> HttpResponseBase:
    """Show a picture small."""
    return serve_thumbnail(request, selectors.picture_blob(request.actor, uid))


@team_view(can=Can.WEIGHTS_DOWNLOAD)
@require_safe
def lora_download(request: TeamRequest, uid: str) -> HttpResponseBase:
    """Download one file of a model version."""
    file = selectors.lora_file(request.actor, uid)
    return serve_download(file.blob, file.filename)
