"""Whatever goes wrong is a problem document with a code, and what is not known is refused."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from projects.models import Project
from tests.api import contract
from tests.api.clients import API, with_key
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(scenario: Scenario) -> APIClient:
    return with_key(scenario.alice)


def send(client: APIClient, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    kind = headers.pop("Content_Type", "application/json")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.generic(method, f"{API}{path}", body, kind, headers=names)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("PUT", "/projects", b"", {}, 405, "method_not_allowed"),
        ("OPTIONS", "/projects", b"", {}, 405, "method_not_allowed"),
        ("GET", "/projects", b"", {"Accept": "text/html"}, 406, "not_acceptable"),
        ("POST", "/projects", b"name=x", {"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", "/projects", b"{", {}, 400, "parse_error"),
        ("POST", "/projects", b"[" * 5000, {}, 400, "parse_error"),
        ("POST", "/projects", b"[]", {}, 422, "validation_failed"),
        ("POST", "/projects", b'{"name": "a\\u0000"}', {}, 422, "validation_failed"),
        ("POST", "/projects", b'{"name": "a\\ud800"}', {}, 422, "validation_failed"),
        ("POST", "/projects", b'{"name": "a", "\\ud800": 1}', {}, 400, "validation_failed"),
        ("POST", "/projects", b'{"name": "a", "metadata": {"\\u0000": "1"}}', {}, 422, "validation_failed"),
        (
            "POST",
            "/projects",
            b'{"name": "a"}',
            {"Idempotency_Key": "x" * 256},
            400,
            "idempotency_key_invalid",
        ),
        ("POST", "/trainings", b"{}", {}, 400, "idempotency_key_missing"),
        ("GET", "/projects?limit=0", b"", {}, 422, "validation_failed"),
        ("GET", "/projects?limit=101", b"", {}, 422, "validation_failed"),
        ("GET", "/projects?limit=1&limit=2", b"", {}, 400, "repeated_filter"),
        ("GET", "/projects?cursor=abc", b"", {}, 422, "cursor_invalid"),
        ("GET", "/projects?archivd=true", b"", {}, 400, "unknown_filter"),
        ("GET", "/me?x=1", b"", {}, 400, "unknown_filter"),
        ("GET", "/projects?cursor=%00", b"", {}, 400, "bad_request"),
        ("GET", "/nothing", b"", {}, 404, "not_found"),
        ("GET", "/projects/prj_00000000000000000000000000", b"", {}, 404, "not_found"),
    ],
)
def test_every_refusal_is_a_problem_document(
    alice: APIClient, method: str, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = send(alice, method, path, body, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer["X-Request-ID"]


def test_a_body_that_is_too_large_is_refused(alice: APIClient, scenario: Scenario, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    answer = send(alice, "POST", "/projects", b'{"name": "' + b"x" * 200 + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert not Project.objects.for_team(scenario.team).exists()


def test_each_wrong_field_is_named(alice: APIClient) -> None:
    answer = send(alice, "POST", "/projects", b'{"description": 1, "a/b": 2}')
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/a~1b")
    answer = send(alice, "POST", "/projects", b'{"name": "", "metadata": {"k": ["no"]}}')
    assert {row["pointer"] for row in answer.json()["errors"]} == {"/name", "/metadata/k"}


def test_a_full_store_is_told_with_its_numbers(alice: APIClient, scenario: Scenario, settings: Any) -> None:
    from projects.services.datasets import create_dataset
    from projects.services.projects import create_project

    settings.TEAM_MAX_BYTES = 1000
    project = create_project(actor=scenario.alice, name="Cups")
    dataset = create_dataset(actor=scenario.alice, project_uid=project.uid, name="First")
    import base64

    names = {"filename": "a.png", "dataset": dataset.uid}
    metadata = ",".join(f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in names.items())

    def announce(size: int) -> Any:
        tus = {"Tus_Resumable": "1.0.0", "Upload_Length": str(size), "Upload_Metadata": metadata}
        return send(alice, "POST", "/uploads", b"", Content_Type="application/offset+octet-stream", **tus)

    assert announce(600).status_code == 201
    full = announce(600)
    body = full.json()
    assert (full.status_code, body["code"], body["quota"]) == (429, "quota_exceeded", "stored_bytes")
    assert (body["used"], body["limit"], body["retryable"]) == (600, 1000, False)
    assert announce(400).status_code == 201


def test_every_post_may_be_repeated_with_a_key() -> None:
    without = [
        path
        for path, operations in contract.document()["paths"].items()
        if "post" in operations
        and "/auth/" not in path
        and "Idempotency-Key" not in {each["name"] for each in operations["post"].get("parameters", [])}
    ]
    assert without == []


def test_the_contract_notices_what_the_document_does_not_say(alice: APIClient, monkeypatch: Any) -> None:
    schema = contract.document()["paths"]["/api/v1/me"]["get"]["responses"]
    monkeypatch.setitem(schema, "200", {"description": "", "content": {"text/plain": {}}})
    contract._responses.cache_clear()
    alice.get(f"{API}/me")
    contract._responses.cache_clear()
    assert contract.mismatches == ["GET /api/v1/me: type 'application/json' is not in the document for 200"]
    contract.mismatches.clear()
