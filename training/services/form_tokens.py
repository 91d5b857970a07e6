"""The token of a form: the same one gives the same job, however often and however fast it is sent."""

from __future__ import annotations

import hashlib

from django.utils.translation import gettext as _

from accounts.models import Team
from core.errors import Conflict
from core.models import IdempotencyRecord
from training.models import TrainingJob

ONCE = "core_idempotency_once"


def take_token(team: Team, token: str, fingerprint: str) -> IdempotencyRecord | None:
    """Note a token in the transaction that makes its job; None without one. IntegrityError names `ONCE` if it is taken.

    `give_token` completes the note.
    """
    if not token:
        return None
    record: IdempotencyRecord = IdempotencyRecord.objects.create(
        team=team, key=_key(token), fingerprint=fingerprint
    )
    return record


def give_token(record: IdempotencyRecord | None, job: TrainingJob) -> None:
    """Note which job the token stands for."""
    if record is not None:
        record.status, record.body = 303, {"uid": job.uid}
        record.save(update_fields=["status", "body"])


def job_of_token(team: Team, token: str) -> TrainingJob:
    """Return the job that a taken token stands for; raise Conflict if it was deleted since."""
    record = IdempotencyRecord.objects.for_team(team).get(key=_key(token))
    job: TrainingJob | None = TrainingJob.jobs.for_team(team).filter(uid=record.body["uid"]).first()
    if job is None:
        raise Conflict("sent_already", _("This form was sent already. Open the page again to send another."))
    return job


def _key(token: str) -> str:
    # By its digest: a token is whatever a browser sends.
    return f"training-form:{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()}"
