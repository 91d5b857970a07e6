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


@pytest.mark.parametrize("address", ["/api/v1/trainings/123", "/api/v1/nothing", "/api/nothing"])
def test_programs_get_a_problem_document_for_a_wrong_address(client: Client, address: str) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "not_found"


def test_programs_get_a_problem_document_for_a_fault_of_ours(rf: RequestFactory) -> None:
    answer = server_error(rf.get("/api/v1/me"))
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/t/atelier/projects/%00/", 400),
        ("/t/atelier/trainings/?q=%00", 400),
        ("/t/atelier/datasets/ds_1/", 404),
        ("/t/atelier/datasets/a%2Fb/", 404),
    ],
)
def test_odd_addresses_are_refused_before_the_database_sees_them(
    scenario: Scenario, client: Client, address: str, status: int
) -> None:
    client.force_login(scenario.alice.user)
    assert client.get(address).status_code == status


def test_operators_log_in_through_the_throttled_door(client: Client, db: None) -> None:
    answer = client.get("/admin/login/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/account/login/")


def test_the_interactive_documentation_brings_no_inline_script(client: Client) -> None:
    page = client.get("/api/docs/").content.decode()
    assert "<script>" not in page
    script = client.get("/api/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert "SwaggerUIBundle" in script.content.decode()
