"""The points a run resumes from: folders in storage, kept while they can still be needed."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from django.db import transaction

from accounts.models import Team
from core import storage
from training.models import Checkpoint, TrainingJob
from training.queue.lease import Lease

# The files of a resumable checkpoint, the manifest last: a folder without it counts as not there.
STATE_FILES = ("adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
# So many points to resume from are kept; every exported file is.
STATES_KEPT = 2
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


def store_state(lease: Lease, folder: Path) -> str:
    """Upload a checkpoint folder; return its key, or "" if the engine pruned it in the meantime."""
    try:
        for name in STATE_FILES:
            key = storage.run_key(lease.team.uid, lease.job_uid, lease.fence, folder.name, name)
            storage.save_file(key, folder / name)
    except FileNotFoundError:
        return ""
    return storage.run_key(lease.team.uid, lease.job_uid, lease.fence, folder.name)


def newest_states(team: Team, job_id: int) -> list[Checkpoint]:
    """Return the checkpoints a run can be resumed from, the newest first."""
    rows = Checkpoint.objects.for_team(team).filter(job_id=job_id).exclude(state_key="")
    return list(rows.order_by("-step"))


def has_state(job: TrainingJob) -> bool:
    """Tell whether there is a point to resume `job` from."""
    return bool(newest_states(job.team, job.pk))


def saved_at(job: TrainingJob) -> datetime | None:
    """Return when the present attempt of `job` last saved what it can be resumed from; None if it has not."""
    return next(
        (each.created_at for each in newest_states(job.team, job.pk) if each.fence == job.fence), None
    )


def forget_states(job: TrainingJob, *, keep: int = 0) -> None:
    """Drop all but the newest `keep` points of `job`; their files go after the commit."""
    for checkpoint in newest_states(job.team, job.pk)[keep:]:
        _delete_after_commit(checkpoint.state_key)
        checkpoint.state_key = ""
        checkpoint.save(update_fields=["state_key"])


def _delete_after_commit(state_key: str) -> None:
    def delete() -> None:
        for name in reversed(STATE_FILES):
            storage.delete(f"{state_key}/{name}")

    transaction.on_commit(delete, robust=True)


def download_name(checkpoint: Checkpoint) -> str:
    """Return the name a checkpoint's file is downloaded under."""
    stem = _NOT_IN_NAMES.sub("_", checkpoint.job.name).strip("._") or "lora"
    return f"{stem}.safetensors" if checkpoint.is_final else f"{stem}-step{checkpoint.step:08d}.safetensors"
