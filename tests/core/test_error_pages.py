"""Error pages: right status, in the same frame, and they do not fail themselves."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from core.http.errors import server_error
from tests.scenario import Scenario


def test_a_stranger_reads_the_same_page_as_for_a_wrong_address(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.charlie.user)
    foreign, missing = client.get("/t/atelier/settings/"), client.get("/t/nothing/settings/")
    assert (foreign.status_code, missing.status_code) == (404, 404)

    def said(page: bytes) -> str:
        return page.decode().split("data-error-message>")[1].split("<")[0]

    assert said(foreign.content) == said(missing.content)
    assert "atelier" not in foreign.content.decode()


def test_a_low_role_is_told_whom_to_ask(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    page = client.get("/t/atelier/settings/keys/")
    assert page.status_code == 403
    assert "Ask an admin of the team." in page.content.decode()


def test_a_form_without_its_token_gets_a_page_of_ours(scenario: Scenario) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(scenario.bob.user)
    page = client.post("/profile/", {"name": "X", "language": "en"})
    assert page.status_code == 403
    assert "This form is too old" in page.content.decode()
    scenario.bob.user.refresh_from_db()
    assert scenario.bob.user.name == "Bob"


@pytest.mark.django_db
def test_the_page_for_our_own_faults_asks_the_database_nothing() -> None:
    request = RequestFactory().get("/", headers={"cookie": "sessionid=abc; theme=dark"})
    with CaptureQueriesContext(connection) as queries:
        page = server_error(request)
    assert page.status_code == 500
    assert "Something broke on our side" in page.content.decode()
    assert len(queries) == 0


@pytest.mark.django_db
def test_too_many_wrong_passwords_are_slowed_down(client: Client) -> None:
    # An address and a machine of its own: the counts outlive the test.
    somebody = {"login": "mallory@example.org", "password": "wrong"}
    for _try in range(12):
        answer = client.post("/account/login/", somebody, REMOTE_ADDR="203.0.113.50")
    assert "Too many" in answer.content.decode()
