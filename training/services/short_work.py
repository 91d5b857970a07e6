"""Queue short work of any kind: quota, row, reservation, audit and wake-up in one transaction."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from accounts.services.audit import audit
from core.ids import new_uid
from core.quotas import demand
from training.kinds import PREFIXES, JobKind
from training.models import TrainingJob
from training.services.form_tokens import ONCE, give_token, job_of_token, take_token
from training.services.lifecycle import append_events
from training.services.metering import reserve
from training.states import JobState, Simulated
from training.tasks import wake


def queue_short_work(
    actor: Actor, kind: JobKind, *, estimated_seconds: int, form_token: str = "", **fields: Any
) -> TrainingJob:
    """Queue a job of `kind` with the other `fields` of its row; with `form_token` the same token gives the same job.

    What it is about was allowed and checked by the caller. Raise QuotaExceeded or InsufficientCredits.
    """
    require(actor, Can.TRAINING_EDIT)
    is_test = bool(actor.api_key and actor.api_key.is_test)
    try:
        with transaction.atomic():
            Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
            receipt = take_token(actor.team, form_token, fields["spec_sha256"])
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
                **fields,
            )
            reserve(job, estimated_seconds)
            append_events(job, [("status", now, {"state": JobState.QUEUED.value, "desired": ""})])
            job.save(update_fields=["last_seq"])
            give_token(receipt, job)
            audit(actor, f"{kind}.created", job)
            wake(job)
            return job
    except IntegrityError as error:
        if ONCE not in str(error):
            raise
        return job_of_token(actor.team, form_token)
