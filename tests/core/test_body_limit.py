"""Bodies that are too large are refused before they are taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.http.body_limit import BodyLimit


def call(path: str, headers: dict[str, str], pieces: list[bytes]) -> tuple[int, int]:
    """Send a request through the limit; return the status and how many bytes the application got."""
    got, sent = bytearray(), []
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            got.extend(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "headers": raw}
    asyncio.run(BodyLimit(app)(scope, receive, send))
    return (sent[0]["status"] if sent else 0, len(got))


@pytest.fixture(autouse=True)
def limits(settings: Any) -> None:
    settings.UPLOAD_MAX_BYTES, settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024**2, 1000


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v1/me", {"Content-Length": "1001"}, 413),
        ("/api/v1/me", {"Content-Length": "1000"}, 200),
        ("/api/v1/me", {"Content-Length": "1001", "Authorization": "Bearer x"}, 413),
        ("/api/v1/uploads/upl_1", {"Content-Length": "5000000"}, 413),
        ("/api/v1/uploads/upl_1", {"Content-Length": "5000000", "Authorization": "Bearer x"}, 200),
        ("/api/v1/uploads", {"Content-Length": "50000000", "Authorization": "Bearer x"}, 413),
        ("/t/atelier/datasets/ds_1/uploads/", {"Content-Length": "5000", "Cookie": "sessionid=x"}, 200),
        ("/t/atelier/uploads/upl_1/", {"Content-Length": "5000", "Cookie": "csrftoken=x"}, 413),
        ("/api/v1/uploadsX", {"Content-Length": "5000", "Authorization": "Bearer x"}, 413),
    ],
)
def test_a_body_that_announces_too_much_is_refused(path: str, headers: dict[str, str], status: int) -> None:
    assert call(path, headers, [b"x"]) == (status, 1 if status == 200 else 0)


def test_a_body_that_grows_without_saying_so_is_cut_off() -> None:
    assert call("/api/v1/me", {}, [b"x" * 600, b"x" * 600]) == (0, 600)
    assert call("/api/v1/me", {}, [b"x" * 600, b"x" * 400]) == (200, 1000)
