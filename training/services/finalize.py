"""End a training well: verify the file, register the version, settle usage, write to its owner."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction
from django.utils import timezone

from core.outbox import enqueue
from projects.models import Blob
from projects.services.blobs import store_blob
from projects.services.loras import NewFile, NewSample, register_version
from training.engine import ENGINE_VERSION
from training.engine.events import Export
from training.engine.spec import RunSpec
from training.models import Checkpoint, Sample, TrainingJob
from training.queue.lease import Lease
from training.services.lifecycle import append_events, cancel_job_now, end_attempt, hold, move
from training.services.telemetry import WEIGHTS_TYPE
from training.states import Desired, JobState

# What is left of a name of 80 characters once it is marked: a simulated file gets no place among the real ones.
_NAME_OF_TEST = 73


class DamagedExport(Exception):
    """Say that the exported file is not the one that the engine verified."""


def start_finalizing(lease: Lease) -> None:
    """Tell that the steps are done and the result is being stored."""
    with transaction.atomic():
        job = hold(lease)
        if job.state == JobState.STARTING:  # a run so short that its first event and its end came together
            move(job, JobState.RUNNING)
        if job.state != JobState.FINALIZING:
            move(job, JobState.FINALIZING)


def complete(lease: Lease, run_dir: Path, export: Export, *, step: int, stopped: bool) -> None:
    """Store the verified file and end the job as succeeded, or as stopped and kept.

    Raise DamagedExport, OSError from storage, LeaseLost. The whole end is one transaction: version, usage, state
    and mail are there together or not at all.
    """
    blob = store_blob(team=lease.team, path=run_dir / export.path, content_type=WEIGHTS_TYPE)
    if blob.sha256 != export.sha256:
        raise DamagedExport(f"expected {export.sha256}, stored {blob.sha256}")
    with transaction.atomic():
        job = hold(lease)
        if job.desired == Desired.CANCEL:
            cancel_job_now(job)
            return
        _end(job, blob, export, step, stopped)


def complete_short(job: TrainingJob) -> None:
    """End a locked, live job of short work as succeeded: its results were stored one by one."""
    job.phase, job.eta_seconds = "", 0.0
    end_attempt(job, "succeeded", useful=True)
    move(job, JobState.FINALIZING)
    move(job, JobState.SUCCEEDED, save=["phase", "eta_seconds"])


def _end(job: TrainingJob, blob: Blob, export: Export, step: int, stopped: bool) -> None:
    from training.tasks import mail_outcome

    final = _final_checkpoint(job, blob, step)
    version = register_version(
        team=job.team,
        project=job.project,
        name=f"{job.name[:_NAME_OF_TEST]} (test)" if job.is_test else job.name,
        created_by=job.created_by,
        training_uid=job.uid,
        dataset_version=job.dataset_version,
        base_model=job.base.key,
        base_sha256=job.base.sha256,
        recipe_sha256=RunSpec.from_dict(job.spec).recipe_sha256(),
        seed=int(job.spec["training"]["seed"]),
        steps=step,
        rank=int(job.spec["method"]["rank"]),
        engine_version="simulated" if job.is_test else ENGINE_VERSION,
        verified_keys=export.keys,
        trigger_words=str(job.spec.get("trigger", "")),
        files=_files(job, export.name),
        samples=_samples(job),
    )
    job.lora_version = version
    job.step = step
    job.eta_seconds = 0.0
    job.phase = ""
    append_events(
        job,
        [
            (
                "checkpoint",
                timezone.now(),
                {
                    "id": final.uid,
                    "step": step,
                    "epoch": final.epoch,
                    "bytes": export.bytes,
                    "export_bytes": export.bytes,
                    "has_export": True,
                    "is_final": True,
                    "keys": export.keys,
                    "model_version": version.uid,
                },
            )
        ],
    )
    end_attempt(job, "stopped" if stopped else "succeeded", useful=True)
    target = JobState.STOPPED if stopped else JobState.SUCCEEDED
    move(job, target, save=["lora_version", "step", "eta_seconds", "phase"])
    enqueue(mail_outcome, job.uid)


def _final_checkpoint(job: TrainingJob, blob: Blob, step: int) -> Checkpoint:
    checkpoint: Checkpoint
    checkpoint, _is_new = Checkpoint.objects.for_team(job.team).update_or_create(
        job=job,
        step=step,
        is_final=True,
        defaults={"team": job.team, "fence": job.fence, "epoch": job.epoch, "export": blob},
    )
    return checkpoint


def _files(job: TrainingJob, name: str) -> list[NewFile]:
    """List every exported file of the run; kept ones are named after their step, as the engine names them."""
    stem = name.removesuffix(".safetensors")
    rows = (
        Checkpoint.objects.for_team(job.team)
        .filter(job=job, export__isnull=False)
        .select_related("export")
        .order_by("step")
    )
    return [
        NewFile(
            blob=row.export,
            filename=name if row.is_final else f"{stem}-step{row.step:08d}.safetensors",
            step=row.step,
            epoch=row.epoch,
            is_final=row.is_final,
        )
        for row in rows
    ]


def _samples(job: TrainingJob) -> list[NewSample]:
    """List the pictures that tell what was learned: the newest of each prompt, and those with the adapter off."""
    rows = list(Sample.objects.for_team(job.team).filter(job=job).select_related("blob"))
    newest = max((row.step for row in rows if row.with_lora), default=-1)
    return [
        NewSample(
            blob=row.blob,
            step=row.step,
            prompt_index=row.prompt_index,
            prompt=row.prompt,
            seed=row.seed,
            with_lora=row.with_lora,
        )
        for row in rows
        if not row.with_lora or row.step == newest
    ]
