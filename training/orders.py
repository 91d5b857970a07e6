"""What a worker hands the engine for short work: the order, with the places of this machine filled in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accounts.models import Team
from core import storage
from projects.models import LoraFile
from training.base_model_cache import Progress, local_base
from training.kinds import JobKind
from training.models import Sample, TrainingJob
from training.worker_cache import DamagedBlob


class MissingPart(Exception):
    """Say that something the order needs was deleted meanwhile; the message is for the person who gave it."""


def write_order(team: Team, job: TrainingJob, folder: Path, progress: Progress) -> Path:
    """Fetch what the order names into `folder` and write its `run.json`; `progress` is told (done, total) files.

    Raise MissingPart, DamagedBlob, OSError when storage or disk fail, and whatever `progress` raises to end it.
    """
    order = {"kind": job.kind, **_WRITERS[JobKind(job.kind)](team, job, folder, progress)}
    path = folder / "run.json"
    path.write_text(json.dumps(order, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _generation(team: Team, job: TrainingJob, folder: Path, progress: Progress) -> dict[str, Any]:
    spec = copy.deepcopy(job.spec)
    spec["base_model"]["path"] = str(local_base(job.foundation_model, progress))
    _fetch_loras(team, spec, folder / "loras", progress)
    drawn = list(Sample.objects.for_team(team).filter(job=job).values_list("prompt_index", flat=True))
    return {"spec": spec, "drawn": drawn}


def _fetch_loras(team: Team, spec: dict[str, Any], folder: Path, progress: Progress) -> None:
    """Put the LoRA files that the mixes name by their uid into `folder`, and name them by their path."""
    uses = [use for mix in spec["mixes"] for use in mix]
    wanted = sorted({use["file"] for use in uses})
    rows = LoraFile.objects.for_team(team).filter(uid__in=wanted).select_related("blob")
    files = {row.uid: row for row in rows}
    if len(files) < len(wanted):
        raise MissingPart("A model version of this order was deleted meanwhile. Order again without it.")
    folder.mkdir()
    for done, (uid, row) in enumerate(files.items(), start=1):
        target = folder / f"{uid}.safetensors"
        if storage.copy_to(storage.blob_key(team.uid, row.blob.sha256), target) != row.blob.sha256:
            raise DamagedBlob(f"file {uid} is not what was stored")
        progress(done, len(files))
    for use in uses:
        use["file"] = str(folder / f"{use['file']}.safetensors")


_WRITERS: dict[JobKind, Callable[[Team, TrainingJob, Path, Progress], dict[str, Any]]] = {
    JobKind.GENERATION: _generation,
}
