"""The Python client: its README against a running server, and how it bears a server that fails."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from django.db import connection

from accounts.services.api_keys import create_api_key
from core.models import OutboxMessage
from tests.factories import png_bytes
from tests.scenario import make_scenario
from tests.training.rows import make_base

PACKAGE = Path(__file__).resolve().parents[2] / "clients" / "python"
sys.path.insert(0, str(PACKAGE / "src"))

import lora_foundry  # noqa: E402
from lora_foundry.transport import Transport, pause  # noqa: E402


@pytest.fixture
def short_jobs() -> Iterator[None]:
    """Do the short jobs as they come, the way a worker would."""
    stopping = threading.Event()

    def work() -> None:
        try:
            while not stopping.wait(0.05):
                for message in OutboxMessage.objects.filter(done_at=None):
                    dramatiq.get_broker().get_actor(message.actor).fn(message.pk, message.subject_uid)
        finally:
            connection.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    stopping.set()
    thread.join(10)


def pictures() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(12):
            archive.writestr(f"{number}.png", png_bytes((256, 256), seed=str(number)))
            archive.writestr(f"{number}.txt", f"a lamp, view {number}")
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_every_example_of_the_readme_runs(
    live_server: Any, short_jobs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    scenario = make_scenario()
    make_base(key="tiny", name="Tiny")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures.zip").write_bytes(pictures())
    key = create_api_key(actor=scenario.alice, name="client", is_test=True)
    names: dict[str, Any] = {"api_key": key.text, "base_url": live_server.url}
    blocks = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    told = capsys.readouterr().out
    assert told.count("'added'") == 12
    assert "succeeded" in told
    assert "name_taken" in told
    assert "out_of_memory" in told
    assert names["training"].retry_of
    assert [path.suffix for path in (tmp_path / "weights").iterdir()] == [".safetensors"]
    assert names["failed"] == []


def test_the_package_is_strictly_typed() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert (PACKAGE / "src" / "lora_foundry" / "py.typed").exists()


class Server:
    """Answer with what a test has written down, and keep what was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes] | None] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                told.asked.append((self.command, self.path, {**self.headers, "body": body.decode("latin-1")}))
                found = told.answers.pop(0)
                if found is None:  # the connection breaks off
                    self.close_connection = True
                    self.connection.close()
                    return
                status, headers, content = found
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_HEAD = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(server: Server, waits: list[float]) -> lora_foundry.Client:
    transport = Transport("lf_test_x", server.url, retries=3, sleep=waits.append)
    return lora_foundry.Client("", "", transport=transport)


def refusal(status: int, code: str, *, retryable: bool, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = f'{{"status": {status}, "code": "{code}", "detail": "d", "retryable": {str(retryable).lower()}}}'
    return status, {"Content-Type": "application/problem+json", **headers}, body.encode()


PROJECT = b'{"id": "prj_1", "object": "project", "name": "Lamps", "new_field": 1}'


def test_what_may_succeed_later_is_tried_again_under_one_key(
    server: Server, client: lora_foundry.Client, waits: list[float]
) -> None:
    server.answers = [
        refusal(429, "rate_limited", retryable=True, **{"Retry-After": "7"}),
        None,
        refusal(503, "unavailable", retryable=True),
        (201, {}, PROJECT),
    ]
    project = client.projects.create(name="Lamps")
    assert (project.name, project.raw["new_field"]) == ("Lamps", 1)
    keys = {headers["Idempotency-Key"] for _method, _path, headers in server.asked}
    assert (len(server.asked), len(keys)) == (4, 1)
    assert waits[0] == 7
    assert 0.5 <= waits[1] <= 1
    assert 1 <= waits[2] <= 2


def test_what_will_not_succeed_is_told_at_once(server: Server, client: lora_foundry.Client) -> None:
    server.answers = [refusal(429, "quota_exceeded", retryable=False)]
    with pytest.raises(lora_foundry.QuotaExceeded):
        client.me()
    server.answers = [refusal(409, "name_taken", retryable=False)]
    with pytest.raises(lora_foundry.Conflict, match="name_taken"):
        client.projects.create(name="Lamps")
    assert len(server.asked) == 2


def test_it_gives_up_in_the_end(server: Server, client: lora_foundry.Client, waits: list[float]) -> None:
    server.answers = [refusal(500, "internal", retryable=True)] * 4
    with pytest.raises(lora_foundry.ServerError):
        client.me()
    server.answers = [None] * 4
    with pytest.raises(lora_foundry.ConnectionFailed):
        client.me()
    assert (len(server.asked), len(waits)) == (8, 6)


def test_an_upload_goes_on_where_the_server_stands(
    server: Server, client: lora_foundry.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_foundry.tus.PIECE_BYTES", 4)
    (tmp_path / "a.png").write_bytes(b"0123456789")
    upload = (
        b'{"id": "upl_1", "dataset": "ds_1", "filename": "a.png", "size": 10, "offset": 10, "state": "done"}'
    )

    def at(offset: int, status: int = 204) -> tuple[int, dict[str, str], bytes]:
        return status, {"Upload-Offset": str(offset)}, b""

    server.answers = [
        (201, {}, upload),
        at(0, 200),
        at(4),
        # The server takes two more bytes and dies: the same piece is refused, and it is asked where to go on.
        None,
        refusal(409, "offset_mismatch", retryable=False),
        at(6, 200),
        at(10),
        (200, {}, upload),
    ]
    assert client.upload(tmp_path / "a.png", dataset="ds_1").state == "done"
    sent = [(h["Upload-Offset"], h["body"]) for m, _path, h in server.asked if m == "PATCH"]
    assert sent == [("0", "0123"), ("4", "4567"), ("4", "4567"), ("6", "6789")]


def test_the_key_goes_to_no_other_server(server: Server, client: lora_foundry.Client, tmp_path: Path) -> None:
    other = Server()
    import hashlib

    digest = hashlib.sha256(b"weights").hexdigest()
    server.answers = [(302, {"Location": f"{other.url}/file"}, b"")]
    other.answers = [(200, {}, b"weights")]
    version = lora_foundry.ModelVersion.of(
        client,
        {
            "id": "mdv_1",
            "model": "mdl_1",
            "number": 1,
            "files": [{"filename": "../a.safetensors", "sha256": digest, "is_final": True}],
            "urls": {"download": f"{server.url}/api/v1/model_versions/mdv_1/download"},
        },
    )
    path = version.download(tmp_path)
    assert (path, path.read_bytes()) == (tmp_path / "a.safetensors", b"weights")
    assert "Authorization" in server.asked[0][2]
    assert "Authorization" not in other.asked[0][2]
    other.http.shutdown()
    other.http.server_close()


TRAINING = {
    "id": "trn_1",
    "project": "prj_1",
    "name": "Lamps",
    "status": "running",
    "base_model": "tiny",
    "dataset_version": "dsv_1",
    "template": "style",
}


def event(seq: int, **data: Any) -> bytes:
    item = {"seq": seq, "type": "status", "at": "2026-01-01T00:00:00Z", "data": data}
    return f"id: {seq}\nevent: status\ndata: {json.dumps(item)}\n\n".encode()


def test_a_stream_that_breaks_off_is_taken_up_where_it_was(
    server: Server, client: lora_foundry.Client, waits: list[float]
) -> None:
    cut = event(4, state="running")
    server.answers = [
        (200, {}, b"retry: 2000\n\n" + event(1) + b":\n\n" + event(2)),
        # The third event is there, of the fourth only a part: the connection is gone before what was announced.
        (200, {"Content-Length": "999"}, event(3, text="drei – 三") + cut[:20]),
        None,
        refusal(429, "too_many_streams", retryable=True, **{"Retry-After": "2"}),
        (200, {}, event(3, text="again") + cut + event(5, state="succeeded")),
        (204, {}, b""),
    ]
    training = lora_foundry.Training.of(client, TRAINING)
    found = list(training.events(follow=True, every=0.25))
    assert [each.seq for each in found] == [1, 2, 3, 4, 5]
    assert found[2].data == {"text": "drei – 三"}
    asked = [path.rpartition("after=")[2] for _method, path, _headers in server.asked]
    assert asked == ["0", "2", "3", "3", "3", "5"]
    assert waits[0] == 0.25
    assert waits[3] == 2


def test_a_stream_that_is_refused_is_told(server: Server, client: lora_foundry.Client) -> None:
    training = lora_foundry.Training.of(client, TRAINING)
    server.answers = [refusal(404, "not_found", retryable=False)]
    with pytest.raises(lora_foundry.NotFound):
        list(training.events(follow=True))
    server.answers = [None] * 4
    with pytest.raises(lora_foundry.ConnectionFailed):
        list(training.events(follow=True))


def test_waits_grow_and_have_an_end() -> None:
    assert pause(0, 1000.0) == 60
    assert all(0.25 * 2**n <= pause(n, None) <= 0.5 * 2**n for n in range(6))
