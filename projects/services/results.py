"""Write what became of the files of an upload: one result for each position, by whoever holds the claim."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from projects.models import Item, UploadedFile, UploadOutcome
from projects.services.claims import Claim


@dataclass(frozen=True, slots=True)
class Result:
    """Say what became of one file, or of one row of a table; `stem` and `caption` are those of captions."""

    position: int
    name: str
    outcome: UploadOutcome
    code: str = ""
    message: str = ""
    item: Item | None = None
    stem: str = ""
    caption: str = ""


class Results:
    """Hold the results of one upload; a position that has one is done, also in a second run."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.upload = claim.upload
        self.team = claim.upload.team
        files = UploadedFile.objects.for_team(self.team).filter(upload=self.upload)
        self.earlier = list(files.values_list("position", "filename", "outcome", "item_id"))
        self.done = {position for position, *_rest in self.earlier}

    def note(self, *results: Result) -> None:
        """Write results whose positions have none yet; raise ClaimLost if another process looks at the upload."""
        new = [result for result in results if result.position not in self.done]
        if not new:
            return
        with transaction.atomic():
            self.claim.got_on()
            UploadedFile.objects.bulk_create((self._row(result) for result in new), batch_size=1000)
        self.done.update(result.position for result in new)

    def refuse(self, position: int, name: str, code: str, message: str) -> None:
        """Write that a file cannot be used, and why."""
        self.note(Result(position, name, UploadOutcome.REFUSED, code, message))

    def _row(self, result: Result) -> UploadedFile:
        return UploadedFile(
            team=self.team,
            upload=self.upload,
            position=result.position,
            item=result.item,
            filename=result.name[-255:],
            outcome=result.outcome,
            code=result.code,
            message=result.message[:400],
            stem=result.stem,
            caption=result.caption,
        )
