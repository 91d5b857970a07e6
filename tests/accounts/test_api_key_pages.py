"""API keys: made, shown once, used, revoked."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from accounts.models import ApiKey, AuditEvent
from accounts.roles import Role
from accounts.services.api_keys import actor_of_key, create_api_key
from tests.factories import make_member
from tests.scenario import Scenario

LIST = "/t/atelier/settings/keys/"
NEW = "/t/atelier/settings/keys/new/"
FORM = {"name": "Build server", "scopes": ["trainings:read", "trainings:write"]}


def test_a_key_is_shown_once_and_stored_as_a_hash(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    answer = client.post(NEW, FORM)
    assert answer.status_code == 201
    assert "no-store" in answer["Cache-Control"]
    texts = re.findall(r"lf_live_[0-9A-Za-z]{46}", answer.content.decode())
    assert len(texts) == 1
    key = ApiKey.objects.for_team(scenario.team).get()
    assert key.scopes == ["trainings:read", "trainings:write"]
    secret = texts[0][len(key.prefix) : -6]
    assert key.prefix == texts[0][:16]
    stored = [str(value) for value in vars(key).values()]
    assert not any(secret in value for value in stored)
    assert not re.search(r"lf_live_[0-9A-Za-z]{46}", client.get(LIST).content.decode())
    actor = actor_of_key(texts[0])
    assert actor is not None
    assert actor.team == scenario.team
    verbs = AuditEvent.objects.for_team(scenario.team).values_list("verb", flat=True)
    assert list(verbs) == ["api_key.created"]


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.VIEWER, Role.BILLING])
def test_lower_roles_neither_see_nor_make_keys(scenario: Scenario, client: Client, role: Role) -> None:
    client.force_login(make_member(scenario.team, role).user)
    assert client.get(LIST).status_code == 403
    assert client.post(NEW, FORM).status_code == 403
    assert ApiKey.objects.for_team(scenario.team).count() == 0
    assert LIST not in client.get("/t/atelier/settings/").content.decode()


def test_a_stranger_gets_404_and_no_key_is_made(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.charlie.user)
    assert client.post(NEW, FORM).status_code == 404
    assert ApiKey.objects.for_team(scenario.team).count() == 0


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "", "scopes": ["trainings:read"]}, "id_name_error"),
        ({"name": "x", "scopes": []}, "at least one"),
    ],
)
def test_an_incomplete_form_comes_back_open_and_makes_nothing(
    scenario: Scenario, client: Client, form: dict[str, object], field: str
) -> None:
    client.force_login(scenario.alice.user)
    answer = client.post(NEW, form)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert field in page
    assert re.search(r'<dialog id="new-key"[^>]*data-open', page)
    assert ApiKey.objects.for_team(scenario.team).count() == 0


def test_the_form_opens_by_its_address_for_browsers_without_scripts(
    scenario: Scenario, client: Client
) -> None:
    client.force_login(scenario.alice.user)
    assert re.search(r'<dialog id="new-key"[^>]*\sopen\b', client.get(f"{LIST}?new").content.decode())
    assert not re.search(r'<dialog id="new-key"[^>]*\sopen\b', client.get(LIST).content.decode())


def test_a_right_that_no_key_may_have_is_refused(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    answer = client.post(NEW, {"name": "x", "scopes": ["team:own"]})
    assert answer.status_code == 422
    assert ApiKey.objects.for_team(scenario.team).count() == 0


def test_a_revoked_key_is_refused_by_the_api(scenario: Scenario, client: Client) -> None:
    new = create_api_key(actor=scenario.alice, name="Laptop")
    header = {"authorization": f"Bearer {new.text}"}
    assert client.get("/api/v1/projects", headers=header).status_code == 200
    client.force_login(scenario.alice.user)
    answer = client.post(f"{LIST}{new.key.uid}/revoke/")
    assert (answer.status_code, answer["Location"]) == (303, LIST)
    client.logout()
    assert client.get("/api/v1/projects", headers=header).status_code == 401


def test_nobody_revokes_the_key_of_another_team(scenario: Scenario, client: Client) -> None:
    new = create_api_key(actor=scenario.alice, name="Laptop")
    client.force_login(scenario.charlie.user)
    assert client.post(f"/t/elsewhere/settings/keys/{new.key.uid}/revoke/").status_code == 404
    assert client.post(f"{LIST}{new.key.uid}/revoke/").status_code == 404
    new.key.refresh_from_db()
    assert new.key.revoked_at is None


def test_a_key_is_made_with_an_end_and_networks_and_rolled(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    form = {"name": "ci", "scopes": ["audit:read"], "expires": "30", "networks": "10.0.0.0/8\n192.0.2.1"}
    assert client.post(NEW, form).status_code == 201
    key = ApiKey.objects.for_team(scenario.team).get()
    assert (key.scopes, key.allowed_networks) == (["audit:read"], ["10.0.0.0/8", "192.0.2.1/32"])
    assert key.expires_at is not None
    page = client.post(f"{LIST}{key.uid}/roll/", {"hours": "1"})
    assert page.status_code == 201
    assert "lf_live_" in page.content.decode()
    key.refresh_from_db()
    assert key.replaced_by is not None


def test_a_wrong_network_is_named_beside_its_field(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    page = client.post(NEW, {"name": "ci", "scopes": ["audit:read"], "networks": "nonsense"})
    assert page.status_code == 422
    assert "id_networks_error" in page.content.decode()
    assert ApiKey.objects.for_team(scenario.team).count() == 0
