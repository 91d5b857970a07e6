"""Uploads through the API: tus and one shot."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from rest_framework.test import APIClient

from core import storage
from projects.duties import (
    delete_expired_uploads,
)
from projects.models import Item, Upload
from tests.factories import png_bytes
from tests.projects.conftest import Worker, Workshop, api_client
from tests.projects.sending import OCTETS, TUS, announce, results, send, upload_file

pytestmark = pytest.mark.django_db


def test_upload_in_three_pieces_becomes_a_picture(
    api: APIClient, workshop: Workshop, media_worker: Worker
) -> None:
    content = png_bytes((300, 300))
    answer = announce(api, workshop.dataset.uid, len(content), "тест 杯子.png")
    assert answer.status_code == 201
    address = answer.headers["Location"]
    assert address.startswith("http://testserver/api/v1/uploads/upl_")
    third = len(content) // 3
    for start, end in ((0, third), (third, 2 * third), (2 * third, len(content))):
        answer = send(api, address, start, content[start:end])
        assert answer.status_code == 204
        assert answer.headers["Upload-Offset"] == str(end)
    assert media_worker() == 1
    shown = api.get(address).json()
    assert (shown["state"], shown["offset"]) == ("done", len(content))
    [file] = shown["files"]
    assert (file["filename"], file["outcome"]) == ("тест 杯子.png", "added")
    item = Item.objects.for_team(workshop.scenario.team).get(uid=file["item"])
    key = storage.blob_key(workshop.scenario.team.uid, item.blob.sha256)
    assert storage.read_bytes(key) == content
    assert default_storage.listdir(f"teams/{workshop.scenario.team.uid}/uploads/{shown['id']}")[1] == []


def test_upload_resumes_where_it_stands(api: APIClient, workshop: Workshop) -> None:
    content = png_bytes((300, 300))
    address = announce(api, workshop.dataset.uid, len(content)).headers["Location"]
    send(api, address, 0, content[:100])
    head = api.head(address, **TUS)
    assert (head.status_code, head.headers["Upload-Offset"]) == (200, "100")
    assert head.headers["Upload-Length"] == str(len(content))
    assert head.headers["Cache-Control"] == "no-store"
    assert send(api, address, 100, content[100:]).headers["Upload-Offset"] == str(len(content))


def test_wrong_offset_is_a_conflict_and_changes_nothing(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 1000).headers["Location"]
    send(api, address, 0, b"x" * 100)
    answer = send(api, address, 50, b"y" * 100)
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["offset"]) == ("offset_mismatch", 100)
    assert Upload.objects.for_team(workshop.scenario.team).get().parts == 1


def test_more_bytes_than_announced_are_refused(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    answer = send(api, address, 0, b"x" * 11)
    assert (answer.status_code, answer.json()["code"]) == (413, "more_than_announced")
    assert Upload.objects.for_team(workshop.scenario.team).get().offset == 0


def test_damaged_piece_is_refused_by_its_checksum(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    answer = send(api, address, 0, b"x" * 5, HTTP_UPLOAD_CHECKSUM="sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_mismatch")
    good = "sha1 " + base64.b64encode(hashlib.sha1(b"xxxxx").digest()).decode()
    assert send(api, address, 0, b"xxxxx", HTTP_UPLOAD_CHECKSUM=good).status_code == 204


def test_upload_larger_than_the_limit_is_refused(api: APIClient, workshop: Workshop, settings: Any) -> None:
    settings.UPLOAD_MAX_BYTES = 1000
    answer = announce(api, workshop.dataset.uid, 1001)
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")


def test_upload_without_a_version_is_refused(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    answer = api.generic("PATCH", address, b"x", content_type=OCTETS, HTTP_UPLOAD_OFFSET="0")
    assert answer.status_code == 412
    answer = api.generic("PATCH", address, b"x", content_type="text/plain", HTTP_UPLOAD_OFFSET="0", **TUS)
    assert answer.status_code == 415


def test_server_says_what_it_can(api: APIClient) -> None:
    answer = api.options("/api/v1/uploads")
    assert (answer.status_code, answer.headers["Tus-Version"]) == (204, "1.0.0")
    assert answer.headers["Tus-Max-Size"] == str(2 * 1024**3)
    assert "termination" in answer.headers["Tus-Extension"]


def test_terminated_upload_is_gone_with_its_parts(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    send(api, address, 0, b"12345")
    assert api.delete(address, **TUS).status_code == 204
    assert api.head(address, **TUS).status_code == 404
    assert not Upload.objects.for_team(workshop.scenario.team).exists()
    uid = address.rpartition("/")[2]
    assert not default_storage.exists(storage.upload_part_key(workshop.scenario.team.uid, uid, 0))


def test_expired_upload_says_gone_and_is_swept(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    send(api, address, 0, b"12345")
    uploads = Upload.objects.for_team(workshop.scenario.team)
    uploads.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert send(api, address, 5, b"67890").status_code == 410
    assert delete_expired_uploads() == 1
    assert not uploads.exists()


def test_deleted_dataset_leaves_no_part_of_its_uploads_in_storage(
    api: APIClient, workshop: Workshop, django_capture_on_commit_callbacks: Any
) -> None:
    content = png_bytes((300, 300))
    half = announce(api, workshop.dataset.uid, len(content)).headers["Location"]
    whole = announce(api, workshop.dataset.uid, len(content)).headers["Location"]
    send(api, half, 0, content[:100])
    send(api, half, 100, content[100:200])
    send(api, whole, 0, content)
    team = workshop.scenario.team.uid
    uids = [address.rpartition("/")[2] for address in (half, whole)]
    keys = [storage.upload_part_key(team, uid, n) for uid, n in ((uids[0], 0), (uids[0], 1), (uids[1], 0))]
    assert all(default_storage.exists(key) for key in keys)
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"/api/v1/datasets/{workshop.dataset.uid}").status_code == 204
    assert not any(default_storage.exists(key) for key in keys)
    assert send(api, half, 200, content[200:]).status_code == 404


def test_archived_project_refuses_uploads_and_freezes(api: APIClient, workshop: Workshop) -> None:
    workshop.add(1)
    dataset, project = workshop.dataset.uid, workshop.dataset.project.uid
    begun = announce(api, dataset, 10).headers["Location"]
    api.patch(f"/api/v1/projects/{project}", {"archived": True}, format="json")
    for answer in (
        announce(api, dataset, 10),
        upload_file(api, workshop, "cup.png", png_bytes((300, 300))),
        api.post(f"/api/v1/datasets/{dataset}/versions"),
        api.post("/api/v1/datasets", {"project": project, "name": "Second"}, format="json"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "project_archived")
    assert Upload.objects.for_team(workshop.scenario.team).count() == 1
    # What was on its way before may arrive.
    assert send(api, begun, 0, b"1234567890").status_code == 204


def test_simple_upload_in_one_request(api: APIClient, workshop: Workshop, media_worker: Worker) -> None:
    answer = upload_file(api, workshop, "cup.png", png_bytes((300, 300)))
    assert (answer.status_code, answer.json()["state"]) == (201, "processing")
    media_worker()
    assert results(api, answer) == [("cup.png", "added", "")]


def test_stranger_finds_no_upload(api: APIClient, workshop: Workshop) -> None:
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    stranger = api_client(workshop.scenario.charlie)
    assert announce(stranger, workshop.dataset.uid, 10).status_code == 404
    assert stranger.get(address).status_code == 404
    assert stranger.head(address, **TUS).status_code == 404
    assert send(stranger, address, 0, b"12345").status_code == 404
    assert stranger.delete(address, **TUS).status_code == 404
    assert Upload.objects.for_team(workshop.scenario.team).get().offset == 0
