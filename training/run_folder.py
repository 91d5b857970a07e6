"""The folder of one attempt: pictures by content, captions, the completed recipe, and what it resumes from."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from accounts.models import Team
from core import storage
from projects.models import DatasetVersion, DatasetVersionItem
from training.base_model_cache import Progress, local_base
from training.kinds import PREFIXES
from training.models import Sample, TrainingJob
from training.orders import write_order
from training.queue.lease import Lease
from training.queue.lookup import live_uids
from training.services.checkpoints import STATE_FILES, newest_states
from training.worker_cache import cached_picture, encoded_folder

_UNSAFE = re.compile(r"[\x00-\x1f/\\]")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Hold the paths the engine is started with."""

    path: Path
    spec: Path
    resume_from: Path | None


def run_path(lease: Lease) -> Path:
    """Return the folder of an attempt; the fence keeps a stale attempt out of a newer one's files."""
    return Path(settings.RUNS_DIR) / lease.job_uid / str(lease.fence)


def prepare(lease: Lease, job: TrainingJob, progress: Progress) -> RunFolder:
    """Make the folder of an attempt and return its paths; `progress` is told (done, total) of what is fetched.

    Raise DamagedBlob, MissingPart, OSError when storage or disk fail, and whatever `progress` raises to end it.
    """
    folder = run_path(lease)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if job.is_short:
        return RunFolder(folder, write_order(lease.team, job, folder, progress), None)
    manifest = folder / "manifest.json"
    entries = _fetch_pictures(lease.team, job.pictures, folder / "data", progress)
    manifest.write_text(json.dumps({"items": entries}, ensure_ascii=False), encoding="utf-8")
    spec = folder / "run.json"
    complete = complete_spec(job, manifest, local_base(job.base, progress))
    spec.write_text(json.dumps(complete, ensure_ascii=False, indent=1), encoding="utf-8")
    states = folder / "checkpoints"
    steps = _fetch_states(lease, states)
    if steps:
        _fetch_samples(lease, job, steps, folder / "samples")
    return RunFolder(folder, spec, _state_path(states, steps[0]) if steps else None)


def complete_spec(job: TrainingJob, manifest: Path, base: Path) -> dict[str, Any]:
    """Return the frozen recipe with the places of this machine, and what an earlier attempt measured, filled in."""
    spec = dict(job.spec)
    if job.threads:
        spec["threads"] = job.threads
    spec["base_model"] = {**spec["base_model"], "path": str(base)}
    spec["dataset"] = {**spec["dataset"], "manifest": str(manifest), "folder": None}
    spec["cache_dir"] = str(encoded_folder(job.team))
    return spec


def remove(lease: Lease) -> None:
    """Remove the folders of this attempt and of those before it, and the job's when none is left."""
    folder = run_path(lease)
    for attempt in list(folder.parent.glob("*")):
        if attempt.name.isdecimal() and int(attempt.name) <= lease.fence:
            shutil.rmtree(attempt, ignore_errors=True)
    with contextlib.suppress(OSError):  # a newer attempt is there
        folder.parent.rmdir()


def remove_leftovers() -> None:
    """Remove the folders of jobs that no worker holds: what a killed worker left on this machine."""
    folders = {
        path.name: path
        for prefix in PREFIXES.values()
        for path in Path(settings.RUNS_DIR).glob(f"{prefix}_*")
    }
    for uid in folders.keys() - live_uids(folders):
        shutil.rmtree(folders[uid], ignore_errors=True)


# -- Pictures -------------------------------------------------------------------------------------------------


def _fetch_pictures(
    team: Team, version: DatasetVersion, folder: Path, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    items = list(
        DatasetVersionItem.objects.for_team(team)
        .filter(version=version)
        .select_related("blob")
        .order_by("position")
    )
    entries = []
    for item in items:
        # The file keeps the name its owner knows it by: the engine's messages name it.
        target = folder / f"{item.position:05d}" / _safe_name(item)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _link(cached_picture(team, item.blob), target)
        except FileNotFoundError:  # given up by age at this very moment
            _link(cached_picture(team, item.blob), target)
        entries.append(
            {
                "path": str(target.relative_to(folder.parent)),
                "sha256": item.blob.sha256,
                "caption": item.caption,
            }
        )
        progress(len(entries), len(items))
    return entries


def _safe_name(item: DatasetVersionItem) -> str:
    name = _UNSAFE.sub("_", item.filename)
    while len(name.encode()) > 200:
        name = name[1:]
    return name if name.strip(". ") else item.blob.sha256


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


# -- What an earlier attempt left ------------------------------------------------------------------------------


def _fetch_states(lease: Lease, folder: Path) -> list[int]:
    """Fetch the kept checkpoints; return the steps of those that are whole as far as files go, the newest first.

    The engine checks the hashes.
    """
    steps: list[int] = []
    for checkpoint in newest_states(lease.team, lease.job_id):
        target = _state_path(folder, checkpoint.step)
        target.mkdir(parents=True)
        try:
            _fetch_files(checkpoint.state_key, STATE_FILES, target)
        except FileNotFoundError:
            shutil.rmtree(target)
            continue
        steps.append(checkpoint.step)
    return steps


def _state_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _fetch_files(prefix: str, names: Iterable[str], target: Path) -> None:
    for name in names:
        storage.copy_to(f"{prefix}/{name}", target / name)


def _fetch_samples(lease: Lease, job: TrainingJob, steps: Iterable[int], folder: Path) -> None:
    """Put back the samples that a resumed run judges itself by: the base model's, and those of the steps it may resume.

    What is missing the engine draws again.
    """
    count = int(job.spec["sampling"]["count"])
    rows = Sample.objects.for_team(lease.team).filter(
        Q(step=0, with_lora=False) | Q(step__in=steps, with_lora=True), job=job
    )
    folder.mkdir(parents=True, exist_ok=True)
    for sample in rows.select_related("blob"):
        prompt, copy = divmod(sample.prompt_index, count)
        suffix = "webp" if sample.blob.content_type == "image/webp" else "png"
        name = f"step-{sample.step:08d}-p{prompt}" + (f"-{copy}" if copy else "") + f".{suffix}"
        try:
            storage.copy_to(storage.blob_key(lease.team.uid, sample.blob.sha256), folder / name)
        except FileNotFoundError:
            (folder / name).unlink(missing_ok=True)
