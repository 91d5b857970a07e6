"""Who looks at an upload: one process at a time, from its claim until two minutes after its last sign of life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from django.db.models import Case, F, Q, QuerySet, When
from django.db.models.functions import Now

from projects.models import Upload, UploadState

# One file of an upload takes seconds; each is a sign of life.
_LASTS = timedelta(minutes=2)


class ClaimLost(Exception):
    """Say that another process looks at the upload now, or that the upload is gone."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Hold the right to write results of `upload`. `kills` processes in a row died before they had any."""

    upload: Upload
    token: UUID
    kills: int

    def hold(self) -> None:
        """Prolong the claim; raise ClaimLost if it is another's. Locks the row until the transaction ends."""
        if not self.rows().update(claimed_until=Now() + _LASTS):
            raise ClaimLost(self.upload.uid)

    def got_on(self) -> None:
        """Prolong the claim and forget earlier kills: there is a new result."""
        if not self.rows().update(claimed_until=Now() + _LASTS, kills=0):
            raise ClaimLost(self.upload.uid)

    def rows(self) -> QuerySet[Upload]:
        """Return the upload as long as the claim holds."""
        return Upload.objects.for_team(self.upload.team).filter(pk=self.upload.pk, claim=self.token)


@contextmanager
def claimed(upload: Upload) -> Iterator[Claim | None]:
    """Claim a complete upload until the block ends; give None if it is done or another process looks at it."""
    token = uuid4()
    rows = Upload.objects.for_team(upload.team).filter(pk=upload.pk, state=UploadState.PROCESSING)
    is_taken = rows.filter(Q(claim=None) | Q(claimed_until__lt=Now())).update(
        claim=token,
        claimed_until=Now() + _LASTS,
        # A claim that nobody gave back is that of a process that was killed.
        kills=Case(When(claim=None, then=F("kills")), default=F("kills") + 1),
    )
    if not is_taken:
        yield None
        return
    upload.refresh_from_db(fields=["state", "kills"])
    claim = Claim(upload, token, upload.kills)
    try:
        yield claim
    finally:
        claim.rows().update(claim=None, claimed_until=None)
