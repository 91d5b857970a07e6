"""The same files on S3, played by moto: stored, read, signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from django.core.files.storage import storages
from moto import mock_aws

from core import storage
from projects.models import Item
from tests.factories import png_bytes
from tests.projects.conftest import Worker, Workshop, api_client, browser
from tests.projects.sending import announce, send
from tests.projects.test_api import make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def bucket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put the blobs into a bucket for one test."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with mock_aws():
        made = boto3.resource(
            "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="s"
        ).create_bucket(Bucket="foundry")
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {
                "BACKEND": "storages.backends.s3.S3Storage",
                "OPTIONS": {
                    "bucket_name": "foundry",
                    "region_name": "us-east-1",
                    "access_key": "a",
                    "secret_key": "s",
                    "file_overwrite": True,
                    "default_acl": None,
                    "querystring_auth": True,
                },
            },
        }
        assert storages["default"].__class__.__name__ == "S3Storage"
        yield made


def keys(bucket: Any) -> list[str]:
    return sorted(found.key for found in bucket.objects.all())


def test_upload_goes_through_the_bucket(bucket: Any, workshop: Workshop, media_worker: Worker) -> None:
    api = api_client(workshop.alice)
    content = png_bytes((300, 300))
    address = announce(api, workshop.dataset.uid, len(content)).headers["Location"]
    team, uid = workshop.scenario.team.uid, address.rpartition("/")[2]
    send(api, address, 0, content[:100])
    assert keys(bucket) == [f"teams/{team}/uploads/{uid}/000000"]
    send(api, address, 100, content[100:])
    media_worker()
    item = Item.objects.for_team(workshop.scenario.team).get()
    key = storage.blob_key(team, item.blob.sha256)
    assert keys(bucket) == [key, f"{key}.thumb.webp"]
    assert storage.read_bytes(key) == content
    page = browser(workshop.alice)
    shown = page.get(f"/t/atelier/pictures/{item.blob.uid}/")
    assert (shown.status_code, b"".join(shown)) == (200, content)
    assert page.get(f"/t/atelier/thumbnails/{item.blob.uid}/").headers["Content-Type"] == "image/webp"


def test_weights_are_fetched_from_the_bucket_by_a_signed_address(bucket: Any, workshop: Workshop) -> None:
    version = make_version(workshop)
    answer = api_client(workshop.alice).get(f"/api/v1/model_versions/{version.uid}/download")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "private, no-store")
    signed = urlsplit(answer.headers["Location"])
    query = parse_qs(signed.query)
    assert "foundry" in signed.netloc + signed.path
    assert query["response-content-disposition"] == [
        "attachment; filename*=utf-8''Cup%20%E6%9D%AF.safetensors"
    ]
    expires = query.get("X-Amz-Expires") or query.get("Expires")
    assert expires


def test_terminated_upload_leaves_nothing_in_the_bucket(bucket: Any, workshop: Workshop) -> None:
    api = api_client(workshop.alice)
    address = announce(api, workshop.dataset.uid, 10).headers["Location"]
    send(api, address, 0, b"12345")
    assert len(keys(bucket)) == 1
    assert api.delete(address, HTTP_TUS_RESUMABLE="1.0.0").status_code == 204
    assert keys(bucket) == []
