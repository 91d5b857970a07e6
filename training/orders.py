"""What a worker hands the engine for short work: the order, with the places of this machine filled in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accounts.models import Team
from core import storage
from projects.models import Blob, DatasetVersionItem, LoraFile
from training.base_model_cache import Progress, local_base
from training.engine.generation import MOST_OF_THE_SET, picture_path
from training.findings import Findings
from training.kinds import JobKind
from training.models import Sample, TrainingJob, WantedCaption
from training.services.captioners import captioner_path
from training.services.captioning import CaptioningOrder
from training.worker_cache import DamagedBlob, cached_picture


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
    spec["base_model"]["path"] = str(local_base(job.base, progress))
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


def _captioning(team: Team, job: TrainingJob, folder: Path, progress: Progress) -> dict[str, Any]:
    spec = CaptioningOrder.of(job).engine.to_dict()
    if spec["model"]:
        spec["model"] = str(captioner_path(spec["model"]))
    wanted = WantedCaption.objects.for_team(team).filter(job=job)
    rows = list(wanted.filter(outcome="", item__excluded=False).select_related("item__blob").order_by("pk"))
    pictures = []
    for row in rows:
        path = _cached_or_gone(team, row.item.blob)
        if path is not None:
            pictures.append({"id": row.item.uid, "path": str(path)})
        progress(len(pictures), len(rows))
    return {"spec": spec, "pictures": pictures, "done": wanted.exclude(outcome="").count()}


def _cached_or_gone(team: Team, blob: Blob) -> Path | None:
    """Return the file of a picture; None if the picture was deleted at this very moment."""
    try:
        return cached_picture(team, blob)
    except FileNotFoundError:
        if Blob.objects.for_team(team).filter(pk=blob.pk).exists():
            raise
        return None


def _evaluation(team: Team, job: TrainingJob, folder: Path, progress: Progress) -> dict[str, Any]:
    """Give what a drawing gets, the pictures of the set, what each mix stands for, and what was found before."""
    order = _generation(team, job, folder, progress)
    found = Findings.from_dict(job.evaluation or {})
    files = [{"id": each.file, "step": each.step} for each in (found.base, *found.files)]
    _fetch_drawn(team, job, folder)
    pictures = _pictures_of(team, found.version, progress)
    return {**order, "files": files, "found": found.told, "pictures": pictures}


def _pictures_of(team: Team, version: str, progress: Progress) -> list[str]:
    """Fetch pictures that a model version was trained on, evenly spread; none if its dataset version is gone."""
    rows = DatasetVersionItem.objects.for_team(team).filter(version__lora_versions__uid=version)
    items = list(rows.select_related("blob").order_by("position"))
    stride = max(1, -(-len(items) // MOST_OF_THE_SET))
    paths = []
    for done, item in enumerate(items[::stride], start=1):
        paths.append(str(cached_picture(team, item.blob)))
        progress(done, len(items[::stride]))
    return paths


def _fetch_drawn(team: Team, job: TrainingJob, folder: Path) -> None:
    """Put back what an earlier attempt drew; what is missing the engine draws again."""
    for sample in Sample.objects.for_team(team).filter(job=job).select_related("blob"):
        path = picture_path(folder, sample.prompt_index)
        path.parent.mkdir(exist_ok=True)
        try:
            storage.copy_to(storage.blob_key(team.uid, sample.blob.sha256), path)
        except FileNotFoundError:
            path.unlink(missing_ok=True)


_WRITERS: dict[JobKind, Callable[[Team, TrainingJob, Path, Progress], dict[str, Any]]] = {
    JobKind.CAPTIONING: _captioning,
    JobKind.GENERATION: _generation,
    JobKind.EVALUATION: _evaluation,
}
