"""Uploads as a browser meets them: by tus, by a plain form, and what the page says about them."""

from __future__ import annotations

import base64

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts.roles import Role
from projects.models import Item, Upload
from tests.factories import make_member, png_bytes
from tests.projects.conftest import Worker, Workshop, browser
from tests.projects.sending import OCTETS

pytestmark = pytest.mark.django_db


def test_browser_uploads_by_tus(page: Client, workshop: Workshop, media_worker: Worker) -> None:
    content = png_bytes((300, 300))
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    name = base64.b64encode("猫.png".encode()).decode()
    tus = {"Tus-Resumable": "1.0.0"}
    answer = page.post(
        f"{at}uploads/",
        headers={**tus, "Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"},
    )
    address = answer.headers["Location"]
    assert (answer.status_code, address.startswith("/t/atelier/uploads/upl_")) == (201, True)
    for start, end in ((0, 100), (100, len(content))):
        answer = page.generic(
            "PATCH", address, content[start:end], OCTETS, headers={**tus, "Upload-Offset": str(start)}
        )
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(end))
    uid = address.rstrip("/").rpartition("/")[2]
    waiting = page.get(f"{at}uploads/results/", {"uids": uid}).json()["uploads"]
    assert waiting == [
        {
            "uid": uid,
            "filename": "猫.png",
            "size": len(content),
            "state": "processing",
            "counts": {},
            "files": [],
        }
    ]
    # A page that was loaded in between finds it as well.
    assert page.get(f"{at}uploads/results/").json()["uploads"] == waiting
    assert "1 file is being checked" in page.get(at).content.decode()
    media_worker()
    [done] = page.get(f"{at}uploads/results/", {"uids": uid}).json()["uploads"]
    assert (done["state"], done["counts"]) == ("done", {"added": 1})
    assert page.get(f"{at}uploads/results/").json()["uploads"] == []
    assert "猫.png" not in page.get(f"{at}uploads/log/").content.decode()


def test_page_says_which_uploads_of_the_reader_are_not_complete(page: Client, workshop: Workshop) -> None:
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10", "Upload-Metadata": "filename Y3VwLnBuZw=="}
    page.post(f"{at}uploads/", headers=headers)
    shown = page.get(at).content.decode()
    assert "1 upload of yours is not complete" in shown
    assert "cup.png" in shown
    # To others it is under way, as far as anybody knows; and what has expired cannot go on.
    editor = browser(make_member(workshop.scenario.team, Role.EDITOR))
    assert "not complete" not in editor.get(at).content.decode()
    Upload.objects.for_team(workshop.scenario.team).update(expires_at=timezone.now())
    assert "not complete" not in page.get(at).content.decode()


def test_caption_without_a_picture_is_said_to_wait(
    page: Client, workshop: Workshop, media_worker: Worker
) -> None:
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    table = SimpleUploadedFile("metadata.csv", b"file_name,text\na.png,a cup\nb.png,a mug\n")
    page.post(f"{at}uploads/form/", {"files": [table]})
    page.post(f"{at}uploads/form/", {"files": [SimpleUploadedFile("a.png", png_bytes((300, 300)))]})
    media_worker()
    upload = Upload.objects.for_team(workshop.scenario.team).get(filename="metadata.csv")
    [told] = page.get(f"{at}uploads/results/", {"uids": upload.uid}).json()["uploads"]
    assert told["counts"] == {"caption": 1, "waiting": 1}
    [file] = told["files"]
    assert (file["filename"], file["code"], file["message"]) == (
        "b.png",
        "caption_waiting",
        "The caption waits for a picture of the same name.",
    )
    assert "b.png" in page.get(f"{at}uploads/log/").content.decode()


def test_upload_needs_the_csrf_token(workshop: Workshop) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(workshop.alice.user)
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    answer = strict.post(f"/t/atelier/datasets/{workshop.dataset.uid}/uploads/", headers=headers)
    assert answer.status_code == 403
    assert not Upload.objects.for_team(workshop.scenario.team).exists()


def test_plain_form_uploads_without_a_script(page: Client, workshop: Workshop, media_worker: Worker) -> None:
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    files = [
        SimpleUploadedFile("a.png", png_bytes((300, 300))),
        SimpleUploadedFile("a.txt", b"a cup"),
        SimpleUploadedFile("b.png", b"#!/bin/sh"),
    ]
    assert page.post(f"{at}uploads/form/", {"files": files}).status_code == 303
    assert media_worker() == 3
    item = Item.objects.for_team(workshop.scenario.team).get()
    assert (item.filename, item.caption) == ("a.png", "a cup")
    assert "This is not a picture" in page.get(f"{at}uploads/log/").content.decode()
    # The reason is told in the reader's language, whoever uploaded.
    page.cookies["django_language"] = "zh-hans"
    assert "This is not a picture" not in page.get(f"{at}uploads/log/").content.decode()
