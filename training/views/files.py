"""Files of a training: sample pictures and the LoRA file of a checkpoint."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from core.errors import NotFound
from projects.serving import serve_download, serve_picture
from training import selectors
from training.services.checkpoints import download_name


@team_view(can=Can.TRAINING_VIEW)
@require_safe
def sample_picture(request: TeamRequest, uid: str) -> HttpResponseBase:
    """Show a sample picture."""
    return serve_picture(request, selectors.sample_by_uid(request.actor, uid).blob)


@team_view(can=Can.WEIGHTS_DOWNLOAD)
@require_safe
def checkpoint_download(request: TeamRequest, uid: str) -> HttpResponseBase:
    """Download the `.safetensors` file of a checkpoint."""
    checkpoint = selectors.checkpoint_by_uid(request.actor, uid)
    if checkpoint.export is None:
        raise NotFound
    return serve_download(checkpoint.export, download_name(checkpoint))
