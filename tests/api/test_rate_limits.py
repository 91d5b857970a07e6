"""Rate limits: told in headers, counted per credential, and no hindrance without Valkey."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings as site
from rest_framework.test import APIClient

from core.api import throttling
from core.api.throttling import take
from tests.api.clients import API, with_key, with_token
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few(settings: Any) -> None:
    settings.RATE_LIMITS = {"api": "3/60", "upload": "100/60", "generate": "1/60", "anonymous": "2/60"}
    with redis.Redis.from_url(site.REDIS_URL) as client:
        for key in client.scan_iter("lf:rate:*"):
            client.delete(key)


def test_headers_count_down_and_the_fourth_request_waits(scenario: Scenario) -> None:
    client = with_key(scenario.alice)
    left = []
    for _request in range(3):
        answer = client.get(f"{API}/projects")
        assert answer.status_code == 200
        assert answer["RateLimit-Policy"] == '"api";q=3;w=60'
        left.append(answer["RateLimit"].partition(";t=")[0])
    assert left == ['"api";r=2', '"api";r=1', '"api";r=0']
    refused = client.get(f"{API}/projects")
    body = refused.json()
    assert (refused.status_code, body["code"], body["retryable"], body["bucket"]) == (
        429,
        "rate_limited",
        True,
        "api",
    )
    assert 1 <= int(refused["Retry-After"]) <= 60
    for again in (with_key(scenario.alice), with_token(scenario.alice)):
        assert again.get(f"{API}/projects").status_code == 429, "another key is not another allowance"
    assert with_token(scenario.bob).get(f"{API}/projects").status_code == 200


def test_uploads_are_counted_apart(scenario: Scenario) -> None:
    client = with_key(scenario.alice)
    answer = client.post(f"{API}/uploads", {}, format="multipart")
    assert answer["RateLimit-Policy"] == '"upload";q=100;w=60'
    assert client.get(f"{API}/projects")["RateLimit"].startswith('"api";r=2')


def test_guesses_are_counted_by_address_and_hinder_nobody_else(scenario: Scenario) -> None:
    guesses = [
        APIClient().get(f"{API}/me", HTTP_AUTHORIZATION=f"Bearer lf_live_{n}").status_code for n in range(4)
    ]
    assert guesses == [401, 401, 429, 429]
    assert with_key(scenario.alice).get(f"{API}/me").status_code == 200


def test_the_window_ends(settings: Any) -> None:
    settings.RATE_LIMITS = {"api": "1/1"}
    subject = str(uuid4())
    first, second = take("api", subject), take("api", subject)
    assert first is not None
    assert second is not None
    assert (first.is_allowed, second.is_allowed, second.reset) == (True, False, 1)
    with redis.Redis.from_url(site.REDIS_URL) as client:
        assert 0 < client.pttl(f"lf:rate:api:{subject}") <= 1000


def test_without_valkey_nobody_is_limited_and_one_time_out_is_paid(scenario: Scenario, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    client = with_key(scenario.alice)
    answers = [client.get(f"{API}/projects") for _request in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0]
    assert throttling._store().away_until > 0
