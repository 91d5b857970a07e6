"""API keys: expiry, networks, rolling, test keys."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey
from accounts.roles import Can, Role
from accounts.services.api_keys import create_api_key, roll_api_key
from core.errors import Conflict, DomainError, NotFound, PermissionDenied
from tests.factories import make_member
from tests.scenario import Scenario


def status(client: Client, text: str, **extra: str) -> int:
    answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"}, **extra)  # type: ignore[arg-type]
    return int(answer.status_code)


def test_an_expired_key_is_refused(scenario: Scenario, client: Client) -> None:
    new = create_api_key(actor=scenario.alice, name="k", expires_at=timezone.now() + timedelta(minutes=1))
    assert status(client, new.text) == 200
    ApiKey.objects.for_team(scenario.team).update(expires_at=timezone.now())
    assert status(client, new.text) == 401


def test_a_key_works_from_its_networks_only(scenario: Scenario, client: Client) -> None:
    new = create_api_key(actor=scenario.alice, name="k", allowed_networks=["10.1.2.3/16", "2001:db8::1"])
    assert new.key.allowed_networks == ["10.1.0.0/16", "2001:db8::1/128"]
    assert status(client, new.text, REMOTE_ADDR="10.1.200.7") == 200
    assert status(client, new.text, REMOTE_ADDR="2001:db8::1") == 200
    assert status(client, new.text, REMOTE_ADDR="10.2.0.1") == 403
    new.key.refresh_from_db()
    assert new.key.last_used_from == "10.1.200.7"


def test_a_rolled_key_goes_on_for_its_overlap(scenario: Scenario, client: Client) -> None:
    old = create_api_key(actor=scenario.alice, name="k", scopes=[Can.PROJECT_VIEW])
    new = roll_api_key(actor=scenario.alice, uid=old.key.uid, overlap=timedelta(hours=1))
    assert (new.key.name, new.key.scopes) == ("k", ["projects:read"])
    assert [status(client, key.text) for key in (old, new)] == [200, 200]
    with pytest.raises(Conflict):
        roll_api_key(actor=scenario.alice, uid=old.key.uid, overlap=timedelta(0))
    ApiKey.objects.for_team(scenario.team).filter(pk=old.key.pk).update(expires_at=timezone.now())
    assert [status(client, key.text) for key in (old, new)] == [401, 200]


def test_a_key_is_rolled_by_its_maker_alone(scenario: Scenario) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    key = create_api_key(actor=editor, name="k").key
    with pytest.raises(PermissionDenied):
        roll_api_key(actor=scenario.alice, uid=key.uid, overlap=timedelta(0))
    with pytest.raises(NotFound):
        roll_api_key(actor=scenario.charlie, uid=key.uid, overlap=timedelta(0))


def test_test_keys_can_be_told_by_their_text(scenario: Scenario, client: Client) -> None:
    new = create_api_key(actor=scenario.alice, name="k", is_test=True)
    assert new.text.startswith("lf_test_")
    assert status(client, new.text) == 200
    assert status(client, new.text.replace("lf_test_", "lf_live_")) == 401


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": " "}, "name_missing"),
        ({"scopes": []}, "scope_not_allowed"),
        ({"scopes": [Can.TEAM_OWN]}, "scope_not_allowed"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expiry_past"),
        ({"allowed_networks": ["10.0.0.300"]}, "network_invalid"),
        ({"allowed_networks": ["10.0.0.1"] * 21}, "too_many_networks"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(
    scenario: Scenario, changes: dict[str, object], code: str
) -> None:
    with pytest.raises(DomainError) as refused:
        create_api_key(actor=scenario.alice, **{"name": "k", **changes})  # type: ignore[arg-type]
    assert refused.value.code == code
    assert not ApiKey.objects.for_team(scenario.team).exists()
