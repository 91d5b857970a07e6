"""One process at a time looks at an upload, whatever is sent twice, killed or stalled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.test import APIClient

from core.models import OutboxMessage
from projects.duties import end_stuck_uploads
from projects.models import Item, Upload
from projects.services import intake
from tests.factories import png_bytes
from tests.projects.conftest import Worker, Workshop
from tests.projects.sending import results, upload_file, zipped

pytestmark = pytest.mark.django_db


@pytest.fixture
def uploads(workshop: Workshop) -> QuerySet[Upload]:
    return Upload.objects.for_team(workshop.scenario.team)


def claim_elsewhere(uploads: QuerySet[Upload], seconds: int, **values: Any) -> None:
    """Leave the rows as another process would that claimed them and has `seconds` left (less than 0: was killed)."""
    uploads.update(claim=uuid4(), claimed_until=timezone.now() + timedelta(seconds=seconds), **values)


def test_message_that_comes_again_during_the_work_leaves_it_alone(
    api: APIClient, workshop: Workshop, media_worker: Worker, uploads: QuerySet[Upload]
) -> None:
    answer = upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    claim_elsewhere(uploads, 60)
    media_worker()
    assert results(api, answer) == []
    assert (uploads.get().state, uploads.get().kills) == ("processing", 0)
    # Nothing failed: it is looked at again later, by whoever finds it free.
    assert OutboxMessage.objects.filter(done_at=None).values_list("failures", flat=True).get() == 0
    uploads.update(claim=None, claimed_until=None)
    media_worker()
    assert results(api, answer) == [("a.png", "added", "")]


def test_upload_of_a_killed_worker_is_taken_up_when_its_claim_ends(
    api: APIClient, workshop: Workshop, media_worker: Worker, uploads: QuerySet[Upload]
) -> None:
    answer = upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    claim_elsewhere(uploads, -1)
    media_worker()
    assert results(api, answer) == [("a.png", "added", "")]
    done = uploads.get()
    assert (done.state, done.claim, done.claimed_until) == ("done", None, None)


def test_worker_that_lost_its_upload_writes_nothing_more(
    api: APIClient,
    workshop: Workshop,
    media_worker: Worker,
    uploads: QuerySet[Upload],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = {f"{n}.png": png_bytes((300, 300), str(n)) for n in range(3)}
    answer = upload_file(api, workshop, "set.zip", zipped(pictures))
    check, seen = intake.check_picture, []

    def stall_at_the_second(content: bytes) -> Any:
        seen.append(content)
        if len(seen) == 2:
            claim_elsewhere(uploads, 60)
        return check(content)

    with monkeypatch.context() as patched:
        patched.setattr(intake, "check_picture", stall_at_the_second)
        media_worker()
    assert [name for name, _outcome, _code in results(api, answer)] == ["0.png"]
    assert (uploads.get().state, len(seen)) == ("processing", 2)
    # The other one is killed, too; a third has everything it needs.
    claim_elsewhere(uploads, -1)
    media_worker()
    assert [name for name, _outcome, _code in results(api, answer)] == ["0.png", "1.png", "2.png"]
    assert Item.objects.for_team(workshop.scenario.team).count() == 3


def test_file_that_kills_every_worker_is_given_up(
    api: APIClient, workshop: Workshop, media_worker: Worker, uploads: QuerySet[Upload]
) -> None:
    answer = upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    claim_elsewhere(uploads, -1, kills=4)
    media_worker()
    assert results(api, answer) == [("a.png", "refused", "failed")]
    assert media_worker() == 0


def test_kills_are_forgotten_when_the_work_gets_on(
    api: APIClient, workshop: Workshop, media_worker: Worker, uploads: QuerySet[Upload]
) -> None:
    upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    claim_elsewhere(uploads, -1, kills=3)
    media_worker()
    assert (uploads.get().state, uploads.get().kills) == ("done", 0)


def test_clock_does_not_end_an_upload_that_is_looked_at(
    api: APIClient, workshop: Workshop, uploads: QuerySet[Upload]
) -> None:
    answer = upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    claim_elsewhere(uploads, 60, expires_at=timezone.now() - timedelta(seconds=1))
    end_stuck_uploads()
    assert (uploads.get().state, results(api, answer)) == ("processing", [])
