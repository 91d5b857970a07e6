"""The browser's login on the API: only with `X-Team` and the CSRF token; other sites only if they are named."""

from __future__ import annotations

from typing import Any

import pytest
from django.middleware.csrf import get_token
from django.test import RequestFactory

from tests.api.clients import API, with_session
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


def test_a_session_without_the_team_is_no_credential(scenario: Scenario) -> None:
    client = with_session(scenario.alice)
    assert client.get(f"{API}/me").json()["role"] == "owner"
    client.credentials()
    assert client.get(f"{API}/me").status_code == 401


def test_a_stranger_to_the_team_finds_nothing(scenario: Scenario) -> None:
    client = with_session(scenario.charlie)
    client.credentials(HTTP_X_TEAM=scenario.team.slug)
    assert client.get(f"{API}/projects").status_code == 404


def test_a_change_needs_the_csrf_token(scenario: Scenario) -> None:
    client = with_session(scenario.alice, enforce_csrf_checks=True)
    refused = client.post(f"{API}/projects", {"name": "Lamps"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    request = RequestFactory().get("/")
    token = get_token(request)
    client.cookies["csrftoken"] = request.META["CSRF_COOKIE"]
    made = client.post(f"{API}/projects", {"name": "Lamps"}, format="json", HTTP_X_CSRFTOKEN=token)
    assert made.status_code == 201


def test_a_wrong_bearer_is_not_helped_by_a_session(scenario: Scenario) -> None:
    client = with_session(scenario.alice)
    answer = client.get(f"{API}/me", HTTP_AUTHORIZATION="Bearer lf_live_nonsense")
    assert answer.status_code == 401


def test_a_named_site_may_read_answers_without_cookies(client: Any, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://studio.example"]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    asked = {"Origin": "https://studio.example", "Access-Control-Request-Method": "POST"}
    answer = client.options(f"{API}/projects", headers=asked)
    assert answer["Access-Control-Allow-Origin"] == "https://studio.example"
    assert "authorization" in answer["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer
    stranger = client.options(f"{API}/projects", headers={**asked, "Origin": "https://elsewhere.example"})
    assert "Access-Control-Allow-Origin" not in stranger
    page = client.get("/account/login/", headers={"Origin": "https://studio.example"})
    assert "Access-Control-Allow-Origin" not in page


def test_other_sites_may_not_read_answers(scenario: Scenario, client: Any) -> None:
    answer = client.get(f"{API}/me", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
