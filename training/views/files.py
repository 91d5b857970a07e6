"""Files of a training: sample pictures and the LoRA file of a checkpoint."""

from __future__ import annotations

import re

from django.http import FileResponse, HttpResponse
from django.views.decorators.http import require_safe

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from core import storage
from core.errors import NotFound
from projects.models import Blob
from training import selectors


@team_view(can=Can.TRAINING_VIEW)
@require_safe
def sample_picture(request: TeamRequest, uid: str) -> HttpResponse:
    """Give a sample picture; it never changes, so the browser keeps it."""
    sample = selectors.sample_by_uid(request.actor.team, uid)
    response = _blob(request, sample.blob)
    response["Cache-Control"] = "private, max-age=31536000, immutable"
    return response


@team_view(can=Can.WEIGHTS_DOWNLOAD)
@require_safe
def checkpoint_download(request: TeamRequest, uid: str) -> HttpResponse:
    """Give the `.safetensors` file of a checkpoint."""
    checkpoint = selectors.checkpoint_by_uid(request.actor.team, uid)
    name = re.sub(r"[^\w.-]+", "_", checkpoint.job.name).strip("._") or "lora"
    return _blob(request, checkpoint.export, filename=f"{name}-step{checkpoint.step:08d}.safetensors")


def _blob(request: TeamRequest, blob: Blob, filename: str = "") -> HttpResponse:
    key = storage.blob_key(request.actor.team.uid, blob.sha256)
    try:
        content = storage.open_key(key)
    except FileNotFoundError:
        raise NotFound from None
    response = FileResponse(
        content,
        as_attachment=bool(filename),
        filename=filename,
        content_type="application/octet-stream" if filename else blob.content_type,
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["ETag"] = f'"{blob.sha256}"'
    return response
