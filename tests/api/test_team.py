"""Members, invitations, keys, the audit log, limits and the team itself over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiKey, AuditEvent, Invitation, Membership
from accounts.roles import Can, Role
from core.models import IdempotencyRecord
from tests.api.clients import API, bearer, with_key, with_token
from tests.factories import make_member
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(scenario: Scenario) -> APIClient:
    return with_key(scenario.alice)


def post(client: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    return client.post(f"{API}{path}", body or {}, format="json", headers=headers)


def test_members_are_listed_changed_and_removed(scenario: Scenario, alice: APIClient) -> None:
    first = alice.get(f"{API}/members?limit=1").json()
    rest = alice.get(f"{API}/members", {"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [row["email"] for row in (*first["data"], *rest["data"])] == [
        "bob@example.org",
        "alice@example.org",
    ]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    viewers = alice.get(f"{API}/members?role=viewer").json()["data"]
    assert [row["id"] for row in viewers] == [scenario.bob.user.uid]
    address = f"{API}/members/{scenario.bob.user.uid}"
    changed = alice.patch(address, {"role": "editor"}, format="json").json()
    assert (changed["object"], changed["role"]) == ("member", "editor")
    assert alice.delete(address).status_code == 204
    assert alice.get(address).status_code == 404
    assert not Membership.objects.filter(team=scenario.team, user=scenario.bob.user).exists()


def test_the_last_owner_stays(scenario: Scenario) -> None:
    alice = with_token(scenario.alice)
    answer = alice.patch(f"{API}/members/{scenario.alice.user.uid}", {"role": "admin"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")


def test_an_admin_makes_nobody_an_owner(scenario: Scenario) -> None:
    admin = make_member(scenario.team, Role.ADMIN)
    for client in (with_key(admin), with_token(admin)):
        answer = client.patch(f"{API}/members/{scenario.bob.user.uid}", {"role": "owner"}, format="json")
        assert answer.status_code == 403
        assert post(client, "/invitations", {"email": "x@example.org", "role": "owner"}).status_code == 403


def test_invitations_are_sent_listed_and_revoked(scenario: Scenario, alice: APIClient) -> None:
    made = post(alice, "/invitations", {"email": "Dana@example.org", "role": "editor"})
    assert made.status_code == 201
    row = made.json()
    assert (row["email"], row["role"], row["open"]) == ("dana@example.org", "editor", True)
    assert [each["id"] for each in alice.get(f"{API}/invitations").json()["data"]] == [row["id"]]
    assert alice.delete(f"{API}/invitations/{row['id']}").status_code == 204
    assert alice.get(f"{API}/invitations").json()["data"] == []
    assert alice.get(f"{API}/invitations/{row['id']}").json()["open"] is False
    known = post(alice, "/invitations", {"email": "bob@example.org", "role": "editor"})
    assert (known.status_code, known.json()["code"]) == (409, "already_member")
    assert Invitation.objects.for_team(scenario.team).count() == 1


def test_a_key_is_told_once_rolled_and_revoked(scenario: Scenario, alice: APIClient) -> None:
    body = {"name": "CI", "scopes": ["projects:read"], "test": True, "allowed_networks": ["127.0.0.0/8"]}
    made = post(alice, "/api_keys", body, **{"Idempotency-Key": "k1"})
    assert made.status_code == 201
    key = made.json()
    assert (key["test"], key["scopes"], key["text"][:8]) == (True, ["projects:read"], "lf_test_")
    again = post(alice, "/api_keys", body, **{"Idempotency-Key": "k1"})
    assert (again.json()["id"], again.json()["text"]) == (key["id"], None)
    assert key["text"] not in str(IdempotencyRecord.objects.for_team(scenario.team).values_list("body"))
    assert "text" not in alice.get(f"{API}/api_keys/{key['id']}").json()
    assert bearer(key["text"]).get(f"{API}/projects").status_code == 200
    rolled = post(alice, f"/api_keys/{key['id']}/roll", {"overlap_seconds": 60}).json()
    assert alice.get(f"{API}/api_keys/{key['id']}").json()["replaced_by"] == rolled["id"]
    for text in (key["text"], rolled["text"]):
        assert bearer(text).get(f"{API}/projects").status_code == 200
    assert alice.delete(f"{API}/api_keys/{rolled['id']}").status_code == 204
    assert bearer(rolled["text"]).get(f"{API}/projects").status_code == 401
    assert post(alice, f"/api_keys/{rolled['id']}/roll").json()["code"] == "key_ended"


def test_a_key_gives_no_more_than_it_holds(scenario: Scenario) -> None:
    client = with_key(scenario.alice, scopes=(Can.API_KEYS, Can.PROJECT_VIEW))
    answer = post(client, "/api_keys", {"name": "more", "scopes": ["trainings:write"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "scope_not_allowed")
    late = post(client, "/api_keys", {"name": "x", "expires_at": (timezone.now() - timedelta(1)).isoformat()})
    assert late.json()["errors"][0]["pointer"] == "/expires_at"
    usual = post(client, "/api_keys", {"name": "same"})
    assert usual.json()["scopes"] == ["projects:read"]


def test_an_editor_sees_only_their_own_keys(scenario: Scenario, alice: APIClient) -> None:
    editor = with_token(make_member(scenario.team, Role.EDITOR))
    mine = post(editor, "/api_keys", {"name": "mine"}).json()
    assert [row["id"] for row in editor.get(f"{API}/api_keys").json()["data"]] == [mine["id"]]
    theirs = ApiKey.objects.for_team(scenario.team).exclude(uid=mine["id"]).first()
    assert theirs is not None
    assert editor.delete(f"{API}/api_keys/{theirs.uid}").status_code == 404


def test_the_audit_log_is_filtered_and_paged(scenario: Scenario, alice: APIClient) -> None:
    project = post(alice, "/projects", {"name": "Lamps", "metadata": {"crm": "1"}}).json()
    alice.patch(f"{API}/projects/{project['id']}", {"name": "Chairs"}, format="json")
    rows = alice.get(f"{API}/audit_log", {"subject": project["id"]}).json()["data"]
    assert [row["verb"] for row in rows] == ["project.changed", "project.created"]
    assert rows[0]["actor"] == scenario.alice.user.uid
    assert rows[0]["data"]["after"]["name"] == "Chairs"
    assert rows[0]["api_key"].startswith("key_")

    def found(**query: str) -> list[str]:
        answer = alice.get(f"{API}/audit_log", {**query, "subject": project["id"]})
        return [row["verb"] for row in answer.json()["data"]]

    assert found(verb="project.created") == ["project.created"]
    assert found(verb="project.") == ["project.changed", "project.created"]
    assert found(actor=rows[0]["api_key"]) == ["project.changed", "project.created"]
    assert found(actor=scenario.bob.user.uid) == []
    assert found(until=rows[0]["at"]) == ["project.created"]
    assert found(since=rows[0]["at"]) == ["project.changed"]
    page = alice.get(f"{API}/audit_log?limit=1").json()
    following = alice.get(f"{API}/audit_log", {"limit": 1, "cursor": page["next_cursor"]}).json()
    assert page["data"][0]["id"] != following["data"][0]["id"]
    assert with_token(scenario.bob).get(f"{API}/audit_log").status_code == 403


def test_a_project_is_restricted_by_a_person_not_by_a_key(scenario: Scenario, alice: APIClient) -> None:
    project = post(alice, "/projects", {"name": "Secret"}).json()
    address, body = f"{API}/projects/{project['id']}", {"restricted": True, "members": []}
    assert alice.patch(address, body, format="json").status_code == 403
    viewer, owner = with_token(scenario.bob), with_token(scenario.alice)
    assert viewer.get(address).status_code == 200
    assert owner.patch(address, body, format="json").json()["restricted"] is True
    assert viewer.get(address).status_code == 404
    listed = {"restricted": True, "members": [scenario.bob.user.uid]}
    assert owner.patch(address, listed, format="json").status_code == 200
    assert viewer.get(address).status_code == 200
    alone = owner.patch(address, {"members": []}, format="json")
    assert alone.json()["errors"][0]["pointer"] == "/members"


def test_the_team_is_renamed_and_no_secret_is_told(scenario: Scenario, alice: APIClient) -> None:
    changed = alice.patch(f"{API}/team", {"name": "Studio"}, format="json").json()
    assert (changed["object"], changed["name"], changed["slug"]) == ("team", "Studio", "atelier")
    locked = alice.patch(f"{API}/team", {"require_two_factor": True}, format="json")
    assert (locked.status_code, locked.json()["code"]) == (422, "two_factor_missing")
    assert with_token(scenario.bob).patch(f"{API}/team", {"name": "Mine"}, format="json").status_code == 403
    assert AuditEvent.objects.for_team(scenario.team).filter(verb="team.changed").count() == 1


def test_limits_tell_what_is_used(scenario: Scenario, alice: APIClient, settings: Any) -> None:
    settings.TEAM_MAX_BYTES = 1000
    limits = alice.get(f"{API}/limits").json()
    quotas = {row["quota"]: (row["used"], row["limit"]) for row in limits["quotas"]}
    assert quotas["stored_bytes"] == (0, 1000)
    assert quotas["queued_trainings"] == (0, settings.TEAM_MAX_QUEUED)
    assert {row["bucket"] for row in limits["rate_limits"]} == {"api", "upload", "generate"}
    settings.TEAM_MAX_BYTES = 0
    limits = alice.get(f"{API}/limits").json()
    assert {row["quota"]: row["limit"] for row in limits["quotas"]}["stored_bytes"] is None
