"""What becomes of uploaded files: pictures, captions, zips, and work that is killed or repeated."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from rest_framework.test import APIClient

from core import storage
from core.models import IdempotencyRecord, OutboxMessage
from projects.duties import (
    _links_to_blobs,
    delete_unused_blobs,
    end_stuck_uploads,
    forget_idempotency_keys,
)
from projects.models import Blob, Item, Upload, UploadedFile
from projects.services import intake
from projects.services.blobs import delete_unused
from projects.services.versions import freeze_dataset
from projects.tasks import ingest_upload
from tests.factories import png_bytes
from tests.projects.conftest import Worker, Workshop
from tests.projects.sending import results, upload_file, zipped

pytestmark = pytest.mark.django_db


def test_same_picture_twice_is_there_once(api: APIClient, workshop: Workshop, media_worker: Worker) -> None:
    for name in ("a.png", "b.png"):
        answer = upload_file(api, workshop, name, png_bytes((300, 300)))
    media_worker()
    assert results(api, answer) == [("b.png", "duplicate", "duplicate")]
    assert Item.objects.for_team(workshop.scenario.team).count() == 1


@pytest.mark.parametrize("first", ["picture", "caption"])
def test_caption_file_finds_its_picture_in_either_order(
    api: APIClient, workshop: Workshop, media_worker: Worker, first: str
) -> None:
    files = [("Cup 1.PNG", png_bytes((300, 300))), ("cup 1.txt", "一只 red cup\n".encode("gb18030"))]
    for name, content in files if first == "picture" else reversed(files):
        upload_file(api, workshop, name, content)
        media_worker()
    item = Item.objects.for_team(workshop.scenario.team).get()
    assert (item.filename, item.caption) == ("Cup 1.PNG", "一只 red cup")
    caption = UploadedFile.objects.for_team(workshop.scenario.team).get(outcome="caption")
    assert (caption.code, caption.item) == ("caption_applied", item)


def test_caption_waits_for_the_picture_that_comes_with_it(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    for name, content in (("cup.png", png_bytes((300, 300), "old")), ("cup.txt", b"the old cup")):
        upload_file(api, workshop, name, content)
    media_worker()
    upload_file(api, workshop, "cup.png", png_bytes((300, 300), "new"))
    upload_file(api, workshop, "cup.txt", b"the new cup")
    # The worker happens to take the caption first.
    for message in OutboxMessage.objects.filter(done_at=None).order_by("-id"):
        ingest_upload.fn(message.pk, message.subject_uid)
    captions = Item.objects.for_team(workshop.scenario.team).values_list("caption", flat=True)
    assert list(captions) == ["the old cup", "the new cup"]


def test_caption_finds_a_picture_whose_upload_is_just_being_finished(
    api: APIClient, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_file(api, workshop, "cup.png", png_bytes((300, 300)))
    upload_file(api, workshop, "cup.txt", b"a cup")
    picture, caption = Upload.objects.for_team(workshop.scenario.team).order_by("id")
    with monkeypatch.context() as patched:
        # The worker of the picture stands between the last file and the mark that all is done.
        patched.setattr(intake, "_finish", lambda claim: None)
        assert intake.ingest(picture) is True
    assert intake.ingest(caption) is True
    assert Item.objects.for_team(workshop.scenario.team).get().caption == "a cup"


def test_caption_file_alone_replaces_the_caption(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    for name, content in (("cup.png", png_bytes((300, 300))), ("cup.txt", b"a cup"), ("cup.txt", b"a mug")):
        upload_file(api, workshop, name, content)
        media_worker()
    assert Item.objects.for_team(workshop.scenario.team).get().caption == "a mug"


def test_zip_of_pictures_and_captions(api: APIClient, workshop: Workshop, media_worker: Worker) -> None:
    content = zipped(
        {
            "cats/1.png": png_bytes((300, 300), "1"),
            "cats/1.txt": b"a grey cat",
            "dogs/1.png": png_bytes((300, 300), "2"),
            "dogs/1.txt": b"a brown dog",
            "cats/2.png": png_bytes((300, 300), "3"),
            "metadata.jsonl": b'{"file_name": "cats/2.png", "text": "a white cat"}\n',
            "__MACOSX/cats/._1.png": b"\0\5\26\7",
            "../escape.png": png_bytes((300, 300), "4"),
            "notes.png": b"#!/bin/sh\nrm -rf /",
            "orphan.txt": b"nobody's",
        }
    )
    answer = upload_file(api, workshop, "set.zip", content)
    media_worker()
    assert results(api, answer) == [
        ("cats/1.png", "added", ""),
        ("cats/1.txt", "caption", "caption_applied"),
        ("dogs/1.png", "added", ""),
        ("dogs/1.txt", "caption", "caption_applied"),
        ("cats/2.png", "added", ""),
        ("metadata.jsonl", "caption", "captions_applied"),
        ("__MACOSX/cats/._1.png", "skipped", "hidden_file"),
        ("../escape.png", "refused", "unsafe_name"),
        ("notes.png", "refused", "not_a_picture"),
        ("orphan.txt", "caption", "caption_waiting"),
    ]
    captions = Item.objects.for_team(workshop.scenario.team).values_list("filename", "caption")
    assert sorted(captions) == [
        ("cats/1.png", "a grey cat"),
        ("cats/2.png", "a white cat"),
        ("dogs/1.png", "a brown dog"),
    ]


def test_ingest_killed_in_the_middle_goes_on_and_adds_nothing_twice(
    api: APIClient, workshop: Workshop, media_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n}.png": png_bytes((300, 300), str(n)) for n in range(4)}
    files |= {f"{n}.txt": f"cup {n}".encode() for n in range(4)}
    answer = upload_file(api, workshop, "set.zip", zipped(files))
    seen = []

    def die_at_the_third(content: bytes) -> Any:
        seen.append(content)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return check(content)

    check = intake.check_picture
    monkeypatch.setattr(intake, "check_picture", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        media_worker()
    items = Item.objects.for_team(workshop.scenario.team)
    assert items.count() == 2
    items.filter(stem="0").update(caption="edited meanwhile")
    media_worker()
    assert [code for _name, _outcome, code in results(api, answer)] == [""] * 4 + ["caption_applied"] * 4
    assert sorted(items.values_list("stem", "caption")) == [
        ("0", "cup 0"),
        ("1", "cup 1"),
        ("2", "cup 2"),
        ("3", "cup 3"),
    ]
    assert media_worker() == 0


def test_work_that_always_fails_ends_with_a_result(
    api: APIClient, workshop: Workshop, media_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = upload_file(api, workshop, "a.png", png_bytes((300, 300)))

    def broken(content: bytes) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(intake, "check_picture", broken)
    for _failure in range(5):
        assert results(api, answer) == []
        media_worker()
    assert results(api, answer) == [("a.png", "refused", "failed")]
    assert media_worker() == 0


def test_upload_that_got_stuck_is_ended_by_the_clock(api: APIClient, workshop: Workshop) -> None:
    answer = upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    end_stuck_uploads()
    assert results(api, answer) == []
    Upload.objects.for_team(workshop.scenario.team).update(expires_at=timezone.now() - timedelta(seconds=1))
    end_stuck_uploads()
    assert results(api, answer) == [("a.png", "refused", "failed")]


def test_kept_answers_are_forgotten_after_a_day(workshop: Workshop) -> None:
    team = workshop.scenario.team
    for key, age in (("old", 25), ("young", 23)):
        record = IdempotencyRecord.objects.create(team=team, key=key, fingerprint="f")
        IdempotencyRecord.objects.for_team(team).filter(pk=record.pk).update(
            created_at=timezone.now() - timedelta(hours=age)
        )
    forget_idempotency_keys()
    assert [record.key for record in IdempotencyRecord.objects.for_team(team)] == ["young"]


def test_bytes_of_deleted_pictures_go_after_a_day_and_used_ones_stay(workshop: Workshop) -> None:
    team = workshop.scenario.team
    deleted, kept, frozen, young = workshop.add(4)
    version = freeze_dataset(actor=workshop.alice, uid=workshop.dataset.uid)
    version.items.exclude(blob_id=frozen.blob_id).delete()
    Item.objects.for_team(team).exclude(pk=kept.pk).delete()
    day = timezone.now() - timedelta(hours=25)
    Blob.objects.for_team(team).exclude(pk=young.blob_id).update(created_at=day)
    assert delete_unused_blobs() == 1
    left = set(Blob.objects.for_team(team).values_list("pk", flat=True))
    assert left == {kept.blob_id, frozen.blob_id, young.blob_id}
    for item, there in ((deleted, False), (kept, True), (frozen, True), (young, True)):
        assert default_storage.exists(storage.blob_key(team.uid, item.blob.sha256)) is there
        assert default_storage.exists(storage.thumbnail_key(team.uid, item.blob.sha256)) is there


def test_every_table_that_links_to_blobs_is_asked() -> None:
    """A link that is not asked for would make its blobs candidates again and again."""
    asked = {rows.model.__name__ for rows in _links_to_blobs()}
    assert {"Item", "DatasetVersionItem", "LoraFile", "LoraSample", "Checkpoint"} <= asked


def test_blob_in_use_is_never_deleted(workshop: Workshop) -> None:
    [item] = workshop.add(1)
    assert delete_unused(item.blob) is False
    assert default_storage.exists(storage.blob_key(workshop.scenario.team.uid, item.blob.sha256))


def test_nothing_lands_outside_its_place(
    api: APIClient, workshop: Workshop, media_worker: Worker, settings: Any, tmp_path: Path
) -> None:
    place = tmp_path / "a" / "b" / "blobs"
    backend = "django.core.files.storage.FileSystemStorage"
    options = {"location": place, "allow_overwrite": True}
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": backend, "OPTIONS": options}}
    names = ["../x.png", "../../../x.png", "/x.png", "C:\\x.png", "..\\x.png", "ok/x.png", "~/x.png"]
    files = {name: png_bytes((300, 300), name) for name in names}
    upload_file(api, workshop, "../../../../evil.zip", zipped(files))
    upload_file(api, workshop, "../../evil.png", png_bytes((300, 300), "alone"))
    media_worker()
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == 6  # three pictures and their thumbnails
    inside = place / "teams" / workshop.scenario.team.uid / "blobs"
    assert all(path.is_relative_to(inside) for path in found)
    shown = Item.objects.for_team(workshop.scenario.team).values_list("filename", flat=True)
    assert sorted(shown) == ["evil.png", "ok/x.png", "~/x.png"]
