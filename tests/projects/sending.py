"""Send files through the API, the way tests of uploads do."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from tests.projects.conftest import Workshop

TUS = {"HTTP_TUS_RESUMABLE": "1.0.0"}
OCTETS = "application/offset+octet-stream"


def tus_metadata(**pairs: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def announce(api: APIClient, dataset: str, size: int, filename: str = "cup.png") -> Any:
    return api.post(
        "/api/v1/uploads",
        HTTP_UPLOAD_LENGTH=str(size),
        HTTP_UPLOAD_METADATA=tus_metadata(filename=filename, dataset=dataset),
        **TUS,
    )


def send(api: APIClient, address: str, offset: int, content: bytes, **headers: str) -> Any:
    return api.generic(
        "PATCH", address, content, content_type=OCTETS, HTTP_UPLOAD_OFFSET=str(offset), **TUS, **headers
    )


def upload_file(api: APIClient, workshop: Workshop, name: str, content: bytes) -> Any:
    return api.post(
        "/api/v1/uploads",
        {"dataset": workshop.dataset.uid, "file": SimpleUploadedFile(name, content)},
        format="multipart",
    )


def results(api: APIClient, answer: Any) -> list[tuple[str, str, str]]:
    files = api.get(f"/api/v1/uploads/{answer.json()['id']}").json()["files"]
    return [(file["filename"], file["outcome"], file["code"]) for file in files]


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
