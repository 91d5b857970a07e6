"""A person gets everything that is kept about them, and nothing of others."""

from __future__ import annotations

import json

from django.test import Client

from accounts.services.api_keys import create_api_key
from tests.scenario import Scenario


def test_a_person_downloads_what_is_kept_about_them(scenario: Scenario, client: Client) -> None:
    text = create_api_key(actor=scenario.alice, name="laptop").text
    create_api_key(actor=scenario.charlie, name="theirs")
    client.force_login(scenario.alice.user)
    assert client.get("/profile/data/").status_code == 302  # the password once more
    client.post("/account/reauthenticate/", {"password": "correct horse", "next": "/profile/"})
    answer = client.get("/profile/data/")
    assert answer.status_code == 200
    data = json.loads(answer.content)
    assert data["profile"]["email"] == "alice@example.org"
    assert [team["role"] for team in data["teams"]] == ["owner"]
    assert [key["name"] for key in data["api_keys"]] == ["laptop"]
    assert [change["verb"] for change in data["changes"]] == ["api_key.created"]
    content = answer.content.decode()
    assert "theirs" not in content
    assert text not in content
    assert "secret" not in content
