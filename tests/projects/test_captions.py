"""Captions find their pictures, whichever of the two comes first and however they are sent."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from projects.models import Item
from tests.factories import png_bytes
from tests.projects.conftest import Worker, Workshop
from tests.projects.sending import results, upload_file, zipped

pytestmark = pytest.mark.django_db

LINES = b'{"file_name": "images/a.png", "text": "a cup"}\n{"file_name": "images/b.png", "text": "a mug"}\n'
TABLE = b"file_name,text\r\nimages/a.png,a cup\r\nimages/b.png,a mug\r\n"


def captions(workshop: Workshop) -> dict[str, str]:
    items = Item.objects.for_team(workshop.scenario.team)
    return dict(items.values_list("filename", "caption"))


@pytest.mark.parametrize(("name", "table"), [("metadata.jsonl", LINES), ("captions.csv", TABLE)])
@pytest.mark.parametrize("first", ["pictures", "table"])
def test_table_dropped_with_its_pictures_reaches_every_one_in_either_order(
    api: APIClient, workshop: Workshop, media_worker: Worker, first: str, name: str, table: bytes
) -> None:
    files = [("a.png", png_bytes((300, 300), "a")), ("b.png", png_bytes((300, 300), "b")), (name, table)]
    for file, content in files if first == "pictures" else reversed(files):
        upload_file(api, workshop, file, content)
        media_worker()
    assert captions(workshop) == {"a.png": "a cup", "b.png": "a mug"}


def test_rows_of_a_table_whose_pictures_are_on_their_way_wait_for_them(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    upload_file(api, workshop, "a.png", png_bytes((300, 300), "old"))
    media_worker()
    answer = upload_file(api, workshop, "metadata.jsonl", LINES)
    media_worker()
    assert results(api, answer) == [
        ("metadata.jsonl", "caption", "captions_applied"),
        ("images/a.png", "caption", "caption_applied"),
        ("images/b.png", "caption", "caption_waiting"),
    ]
    upload_file(api, workshop, "b.png", png_bytes((300, 300), "b"))
    media_worker()
    assert results(api, answer)[2] == ("images/b.png", "caption", "caption_applied")
    assert captions(workshop) == {"a.png": "a cup", "b.png": "a mug"}


def test_newer_table_replaces_what_an_older_one_left_waiting(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    upload_file(api, workshop, "metadata.jsonl", LINES)
    media_worker()
    upload_file(api, workshop, "captions.csv", TABLE.replace(b"a cup", b"a red cup"))
    media_worker()
    upload_file(api, workshop, "a.png", png_bytes((300, 300)))
    media_worker()
    assert captions(workshop) == {"a.png": "a red cup"}


def test_picture_that_two_folders_of_a_table_name_gets_neither_caption(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    table = b"file_name,text\ncats/1.png,a cat\ndogs/1.png,a dog\n"
    answer = upload_file(api, workshop, "metadata.csv", table)
    media_worker()
    upload_file(api, workshop, "1.png", png_bytes((300, 300), "which"))
    media_worker()
    assert captions(workshop) == {"1.png": ""}
    assert [code for _name, _outcome, code in results(api, answer)[1:]] == ["caption_waiting"] * 2
    # With its folder it is clear which one is meant.
    upload_file(api, workshop, "set.zip", zipped({"dogs/1.png": png_bytes((300, 300), "dog")}))
    media_worker()
    assert captions(workshop) == {"1.png": "", "dogs/1.png": "a dog"}


def test_caption_of_another_folder_replaces_nothing(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    files = {"cats/1.png": png_bytes((300, 300)), "cats/1.txt": b"a cat"}
    upload_file(api, workshop, "set.zip", zipped(files))
    media_worker()
    upload_file(api, workshop, "metadata.csv", b"file_name,text\nbirds/1.png,a bird\n")
    media_worker()
    assert captions(workshop) == {"cats/1.png": "a cat"}


def test_row_of_a_zipped_table_finds_its_picture_outside_the_zip(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    upload_file(api, workshop, "a.png", png_bytes((300, 300), "a"))
    media_worker()
    files = {
        "metadata.jsonl": LINES + b'{"file_name": "c.png", "text": "a jug"}\n',
        "deep/c.png": png_bytes((300, 300), "c"),
    }
    answer = upload_file(api, workshop, "set.zip", zipped(files))
    media_worker()
    assert results(api, answer) == [
        ("metadata.jsonl", "caption", "captions_applied"),
        ("deep/c.png", "added", ""),
        ("images/a.png", "caption", "caption_applied"),
        ("images/b.png", "caption", "caption_waiting"),
        ("c.png", "caption", "caption_applied"),
    ]
    upload_file(api, workshop, "b.png", png_bytes((300, 300), "b"))
    media_worker()
    assert captions(workshop) == {"a.png": "a cup", "deep/c.png": "a jug", "b.png": "a mug"}


def test_caption_reaches_a_picture_that_is_here_under_another_name(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    for name, content in (
        ("old.png", png_bytes((300, 300))),
        ("new.txt", b"a cup"),
        ("new.png", png_bytes((300, 300))),
    ):
        upload_file(api, workshop, name, content)
        media_worker()
    assert captions(workshop) == {"old.png": "a cup"}


def test_table_without_a_row_is_refused(api: APIClient, workshop: Workshop, media_worker: Worker) -> None:
    answer = upload_file(api, workshop, "metadata.csv", b"file_name,text\n")
    media_worker()
    assert results(api, answer) == [("metadata.csv", "refused", "bad_table")]
