"""Health for machines and for people."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from core import health
from core.health import Finding
from core.management.commands import doctor


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", False)


def test_a_living_process_says_so_without_a_database(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_whoever_asks_for_health_names_no_host(client: Client) -> None:
    assert client.get("/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/dev/mail/", headers={"Host": "10.0.0.7:8000"}).status_code == 400


@pytest.mark.django_db
def test_a_ready_installation_names_its_parts(client: Client) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "redis": "ok"},
    }


@pytest.mark.django_db
def test_without_redis_it_is_not_ready_and_shows_no_address(client: Client, settings: object) -> None:
    settings.REDIS_URL = "redis://:secret@127.0.0.1:1/0"  # type: ignore[attr-defined]
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["redis"] == "failed"
    assert b"secret" not in response.content
    assert b"127.0.0.1" not in response.content


@pytest.mark.django_db
def test_doctor_says_what_to_do_about_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("training worker", "failed", "none for 90 s", "Start one: manage.py gpu_worker.")
    monkeypatch.setattr(doctor, "local_checks", lambda: [lambda: finding])
    output = io.StringIO()
    with pytest.raises(CommandError, match="training worker"):
        call_command("doctor", stdout=output, no_color=True)
    text = output.getvalue()
    assert "failed   training worker    none for 90 s" in text
    assert "Start one: manage.py gpu_worker." in text
    assert "ok       database           PostgreSQL 18" in text


@pytest.mark.django_db
def test_a_check_that_breaks_does_not_end_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_gremlins() -> Finding:
        raise RuntimeError("bitten")

    monkeypatch.setattr(doctor, "local_checks", lambda: [check_gremlins])
    output = io.StringIO()
    with pytest.raises(CommandError, match="gremlins"):
        call_command("doctor", stdout=output, no_color=True)
    assert "failed   gremlins           bitten" in output.getvalue()
