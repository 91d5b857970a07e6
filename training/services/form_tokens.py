"""The token of a form: the same one gives the same job, however often and however fast it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import Team
from core.errors import Conflict
from core.models import IdempotencyRecord
from training.models import TrainingJob

_ONCE = "core_idempotency_once"


def make_once(team: Team, token: str, fingerprint: str, make: Callable[[], TrainingJob]) -> TrainingJob:
    """Return the job that `make` gives in one transaction, or the one that `token` stands for already ("": none).

    The team's row is held until the commit, so that two requests at once cannot both be the last allowed. Raise what
    `make` raises, and Conflict if the job of the token was deleted since.
    """
    try:
        with transaction.atomic():
            Team.objects.select_for_update(no_key=True).get(pk=team.pk)
            record = _take(team, token, fingerprint) if token else None
            job = make()
            if record is not None:
                record.status, record.body = 303, {"uid": job.uid}
                record.save(update_fields=["status", "body"])
            return job
    except IntegrityError as error:
        if _ONCE not in str(error):
            raise
        return _job_of(team, token)


def _take(team: Team, token: str, fingerprint: str) -> IdempotencyRecord:
    """Note a token; IntegrityError names `_ONCE` if it is taken."""
    record: IdempotencyRecord = IdempotencyRecord.objects.create(
        team=team, key=_key(token), fingerprint=fingerprint
    )
    return record


def _job_of(team: Team, token: str) -> TrainingJob:
    """Return the job that a taken token stands for; raise Conflict if it was deleted since."""
    record = IdempotencyRecord.objects.for_team(team).get(key=_key(token))
    job: TrainingJob | None = TrainingJob.jobs.for_team(team).filter(uid=record.body["uid"]).first()
    if job is None:
        raise Conflict("sent_already", _("This form was sent already. Open the page again to send another."))
    return job


def _key(token: str) -> str:
    # By its digest: a token is whatever a browser sends.
    return f"training-form:{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()}"
