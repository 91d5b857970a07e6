"""Two at once: each of these was a way to lose or double something."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from core import storage
from core.errors import Conflict
from projects.models import Blob, DatasetVersion, Item, LoraVersion, Upload, UploadedFile
from projects.services.blobs import store_blob
from projects.services.datasets import create_dataset
from projects.services.intake import ingest
from projects.services.projects import create_project
from projects.services.uploads import append, create_upload, receive_file
from projects.services.versions import freeze_dataset
from tests.factories import png_bytes
from tests.projects.conftest import Workshop
from tests.projects.test_api import make_version
from tests.scenario import make_scenario

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workshop() -> Workshop:
    scenario = make_scenario()
    project = create_project(actor=scenario.alice, name="Cups")
    return Workshop(scenario, create_dataset(actor=scenario.alice, project_uid=project.uid, name="First"))


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in `count` threads that start at the same moment; return results and exceptions."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        try:
            barrier.wait()
            results[number] = work(number)
        except Exception as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_senders_of_one_upload_do_not_mix_their_bytes(workshop: Workshop) -> None:
    upload = create_upload(
        actor=workshop.alice, dataset_uid=workshop.dataset.uid, filename="a.png", size=1000
    )
    results = together(
        4,
        lambda number: append(
            actor=workshop.alice, uid=upload.uid, offset=0, source=io.BytesIO(bytes([number]) * 600)
        ),
    )
    winners = [number for number, result in enumerate(results) if isinstance(result, Upload)]
    assert len(winners) == 1
    assert all(isinstance(result, Conflict) for n, result in enumerate(results) if n not in winners)
    upload.refresh_from_db()
    assert (upload.offset, upload.parts) == (600, 1)
    key = storage.upload_part_key(workshop.scenario.team.uid, upload.uid, 0)
    assert storage.read_bytes(key) == bytes(winners) * 600


def test_workers_that_look_at_one_upload_at_once_add_it_once(workshop: Workshop) -> None:
    content = png_bytes((300, 300))
    upload = receive_file(
        actor=workshop.alice,
        dataset_uid=workshop.dataset.uid,
        filename="a.png",
        size=len(content),
        source=io.BytesIO(content),
    )
    rows = Upload.objects.for_team(workshop.scenario.team).select_related("team", "created_by")
    answers = together(4, lambda number: ingest(rows.get(pk=upload.pk)))
    # Whoever came during the work was sent away; whoever came after it found it done.
    assert True in answers
    assert set(answers) <= {True, False}
    assert Item.objects.for_team(workshop.scenario.team).count() == 1
    results = UploadedFile.objects.for_team(workshop.scenario.team)
    assert list(results.values_list("outcome", flat=True)) == ["added"]


def test_same_bytes_stored_at_once_are_one_blob(workshop: Workshop) -> None:
    team = workshop.scenario.team
    blobs = together(6, lambda number: store_blob(team=team, content=b"same", content_type="image/png"))
    assert len({blob.pk for blob in blobs}) == 1
    assert Blob.objects.for_team(team).count() == 1


def test_freezing_at_once_makes_one_version(workshop: Workshop) -> None:
    workshop.add(3)
    versions = together(4, lambda number: freeze_dataset(actor=workshop.alice, uid=workshop.dataset.uid))
    assert len({version.pk for version in versions}) == 1
    assert DatasetVersion.objects.for_team(workshop.scenario.team).get().number == 1


def test_finished_trainings_at_once_get_numbers_without_gaps(workshop: Workshop) -> None:
    workshop.add(2)
    together(6, lambda number: make_version(workshop, f"trn_{number // 2}"))
    numbers = LoraVersion.objects.for_team(workshop.scenario.team).values_list("number", flat=True)
    assert sorted(numbers) == [1, 2, 3]
