"""Links to stored files: for whoever holds them, for five minutes, and only made from rows the caller may see."""

from __future__ import annotations

import pytest
from django.core import signing
from django.test import Client

from core import storage
from core.downloads import VALID_SECONDS, download_link
from tests.scenario import Scenario
from tests.world import make_world

KEY = storage.run_key("team_1", "trn_1", 1, "file.bin")


@pytest.fixture
def link() -> str:
    storage.save_bytes(KEY, b"weights")
    return download_link(KEY, filename="Kael é.safetensors", content_type="application/octet-stream", size=7)


def test_holder_of_a_link_gets_the_file_without_a_login(client: Client, link: str) -> None:
    answer = client.get(link)
    assert answer.status_code == 200
    assert answer.getvalue() == b"weights"  # type: ignore[attr-defined]
    assert answer["Content-Length"] == "7"
    assert "filename*=utf-8''Kael%20%C3%A9.safetensors" in answer["Content-Disposition"]
    assert (answer["Cache-Control"], answer["X-Content-Type-Options"]) == ("private, no-store", "nosniff")


def test_link_ends_after_five_minutes(client: Client, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = signing.time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + VALID_SECONDS + 1)
    assert client.get(link).status_code == 410


@pytest.mark.parametrize("change", ["forged", "other purpose", "nonsense"])
def test_link_that_was_not_made_here_opens_nothing(client: Client, link: str, change: str) -> None:
    forged = {
        "forged": link[:-3] + ("aaa" if not link.endswith("aaa") else "bbb"),
        "other purpose": f"/files/{signing.dumps([KEY, 'a', 'text/html', 7], salt='something else')}",
        "nonsense": "/files/nonsense",
    }[change]
    assert client.get(forged).status_code == 404


def test_a_stranger_is_given_no_link(scenario: Scenario, client: Client) -> None:
    world = make_world(scenario.alice, "mine")
    page = f"/t/{scenario.team.slug}/lora-files/{world.file.uid}/download/"
    client.force_login(scenario.charlie.user)
    assert client.get(page).status_code == 404
    client.force_login(scenario.bob.user)  # a viewer may not take weights out
    assert client.get(page).status_code == 403
    client.force_login(scenario.alice.user)
    answer = client.get(page)
    assert answer.status_code == 302
    assert client.get(answer["Location"]).status_code == 200
