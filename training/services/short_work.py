"""Queue short work of any kind: quota, row, reservation, audit and wake-up in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from accounts.actor import Actor, require
from accounts.roles import Can
from accounts.services.audit import audit
from core.ids import new_uid
from core.quotas import demand
from training.kinds import PREFIXES, JobKind
from training.models import TrainingJob
from training.services.form_tokens import make_once
from training.services.lifecycle import append_events
from training.services.metering import reserve
from training.states import JobState, Simulated
from training.tasks import wake


def queue_short_work(actor: Actor, kind: JobKind, *, form_token: str = "", **row: Any) -> TrainingJob:
    """Queue a job of `kind` with these fields of its `row`; with `form_token` the same token gives the same job.

    What it is about was allowed and checked by the caller. Raise QuotaExceeded or InsufficientCredits.
    """
    require(actor, Can.TRAINING_EDIT)
    return make_once(
        actor.team, form_token, row["spec_sha256"], lambda: put_short_work_in_line(actor, kind, **row)
    )


def put_short_work_in_line(
    actor: Actor, kind: JobKind, *, estimated_seconds: int, noted: Mapping[str, Any] | None = None, **row: Any
) -> TrainingJob:
    """Do what `queue_short_work` does inside its transaction, which the caller began with `make_once`.

    `noted` goes into the audit log beside the job. Raise QuotaExceeded or InsufficientCredits.
    """
    require(actor, Can.TRAINING_EDIT)
    is_test = bool(actor.api_key and actor.api_key.is_test)
    if not is_test:
        demand(actor.team, "queued_short_work")
    now = timezone.now()
    job: TrainingJob = TrainingJob.objects.create(
        uid=new_uid(PREFIXES[kind]),
        kind=kind,
        is_short=True,
        team=actor.team,
        created_by=actor.user,
        state=JobState.QUEUED,
        queued_at=now,
        line_at=now,
        estimated_seconds=estimated_seconds,
        is_test=is_test,
        simulate=Simulated.SUCCESS if is_test else "",
        **row,
    )
    reserve(job, estimated_seconds)
    append_events(job, [("status", now, {"state": JobState.QUEUED.value, "desired": ""})])
    job.save(update_fields=["last_seq"])
    audit(actor, f"{kind}.created", job, **(noted or {}))
    wake(job)
    return job
