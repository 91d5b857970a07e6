"""The settings of a team, by role and by stranger."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent, Team
from accounts.roles import Role
from tests.factories import make_member
from tests.scenario import Scenario

PAGES = ["/t/atelier/settings/", "/t/atelier/settings/members/", "/t/atelier/settings/keys/"]


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_cannot_tell_that_the_team_exists(scenario: Scenario, client: Client, page: str) -> None:
    client.force_login(scenario.charlie.user)
    assert client.get(page).status_code == 404
    assert client.get(page.replace("atelier", "no-such-team")).status_code == 404


@pytest.mark.parametrize("page", PAGES)
def test_the_owner_opens_every_tab(scenario: Scenario, client: Client, page: str) -> None:
    client.force_login(scenario.alice.user)
    assert client.get(page).status_code == 200


def test_an_admin_renames_the_team_and_the_address_stays(scenario: Scenario, client: Client) -> None:
    before = scenario.team.name
    client.force_login(make_member(scenario.team, Role.ADMIN).user)
    answer = client.post("/t/atelier/settings/", {"name": "  Atelier East "})
    assert (answer.status_code, answer["Location"]) == (303, "/t/atelier/settings/")
    scenario.team.refresh_from_db()
    assert (scenario.team.name, scenario.team.slug) == ("Atelier East", "atelier")
    event = AuditEvent.objects.for_team(scenario.team).get()
    assert (event.verb, event.subject_name) == ("team.changed", "Atelier East")
    assert event.data == {"before": {"name": before}, "after": {"name": "Atelier East"}}


@pytest.mark.parametrize("role", [Role.EDITOR, Role.REVIEWER, Role.VIEWER, Role.BILLING])
def test_lower_roles_see_the_name_but_cannot_change_it(
    scenario: Scenario, client: Client, role: Role
) -> None:
    client.force_login(make_member(scenario.team, role).user)
    before = scenario.team.name
    page = client.get("/t/atelier/settings/")
    assert page.status_code == 200
    assert 'name="name"' not in page.content.decode()
    assert client.post("/t/atelier/settings/", {"name": "Mine now"}).status_code == 403
    assert Team.objects.get(slug="atelier").name == before


def test_an_empty_name_is_refused_beside_the_field(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    answer = client.post("/t/atelier/settings/", {"name": "   "})
    assert answer.status_code == 422
    assert 'id="id_name_error"' in answer.content.decode()


def test_members_are_listed_with_their_roles_and_no_strangers(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    page = client.get("/t/atelier/settings/members/").content.decode()
    assert "alice@example.org" in page
    assert "bob@example.org" in page
    assert "charlie@example.org" not in page


def test_the_member_list_costs_the_same_for_two_and_for_thirty(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    with CaptureQueriesContext(connection) as few:
        client.get("/t/atelier/settings/members/")
    for _person in range(28):
        make_member(scenario.team, Role.VIEWER)
    with CaptureQueriesContext(connection) as many:
        client.get("/t/atelier/settings/members/")
    assert len(many) == len(few)
