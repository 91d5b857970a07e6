"""Members and their roles: who may change whom, and that it holds at once."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test import Client

from accounts.access import actor_for
from accounts.models import AuditEvent, Membership
from accounts.roles import Can, Role, may_grant
from accounts.services.api_keys import create_api_key
from accounts.services.memberships import change_role, remove_member
from core.errors import Conflict, PermissionDenied
from tests.factories import make_member
from tests.scenario import Scenario

MEMBERS = "/t/atelier/settings/members/"


def role_of(scenario: Scenario, uid: str) -> str | None:
    rows = Membership.objects.filter(team=scenario.team, user__uid=uid)
    return rows.values_list("role", flat=True).first()


def test_an_owner_gives_a_viewer_another_role(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    bob = scenario.bob.user
    answer = client.post(f"{MEMBERS}{bob.uid}/role/", {"role": "editor"}, follow=True)
    assert "It holds at once." in answer.content.decode()
    assert actor_for(bob, "atelier").can(Can.TRAINING_EDIT)
    event = AuditEvent.objects.for_team(scenario.team).get(verb="member.role_changed")
    assert (event.user, event.data) == (scenario.alice.user, {"before": "viewer", "after": "editor"})


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_an_admin_makes_no_owner_and_touches_none(scenario: Scenario, role: Role) -> None:
    admin = make_member(scenario.team, Role.ADMIN)
    owner = scenario.alice.user
    with pytest.raises(PermissionDenied):
        change_role(actor=admin, user_uid=owner.uid, role=role)
    with pytest.raises(PermissionDenied):
        remove_member(actor=admin, user_uid=owner.uid)
    assert role_of(scenario, owner.uid) == "owner"


def test_nobody_hands_out_more_than_they_have() -> None:
    assert [role for role in Role if may_grant(Role.ADMIN, role)] == list(Role)[1:]
    assert all(may_grant(Role.OWNER, role) for role in Role)


def test_the_last_owner_neither_leaves_nor_steps_down(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    assert client.post("/t/atelier/settings/leave/").status_code == 409
    with pytest.raises(Conflict):
        change_role(actor=scenario.alice, user_uid=scenario.alice.user.uid, role=Role.ADMIN)
    assert role_of(scenario, scenario.alice.user.uid) == "owner"


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_leave_one_behind() -> None:
    from tests.scenario import make_scenario

    scenario = make_scenario()
    other = make_member(scenario.team, Role.OWNER)
    refused: list[str] = []
    together = threading.Barrier(2)

    def leave(actor: object) -> None:
        together.wait()
        try:
            remove_member(actor=actor, user_uid=actor.user.uid)  # type: ignore[arg-type,attr-defined]
        except Conflict as error:
            refused.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=leave, args=[actor]) for actor in (scenario.alice, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["last_owner"]
    assert Membership.objects.filter(team=scenario.team, role=Role.OWNER).count() == 1


def test_who_is_removed_is_a_stranger_at_once_with_key_and_session(
    scenario: Scenario, client: Client
) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    text = create_api_key(actor=editor, name="mine").text
    visitor = Client()
    visitor.force_login(editor.user)
    assert visitor.get("/t/atelier/").status_code == 200
    client.force_login(scenario.alice.user)
    client.post(f"{MEMBERS}{editor.user.uid}/remove/")
    assert visitor.get("/t/atelier/").status_code == 404
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"}).status_code == 401


def test_a_key_loses_what_its_maker_loses(scenario: Scenario, client: Client) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    headers = {"Authorization": f"Bearer {create_api_key(actor=editor, name='mine').text}"}
    change_role(actor=scenario.alice, user_uid=editor.user.uid, role=Role.VIEWER)
    assert "projects:write" not in client.get("/api/v1/me", headers=headers).json()["scopes"]
    answer = client.post("/api/v1/projects", {"name": "x"}, content_type="application/json", headers=headers)
    assert answer.status_code == 403


def test_an_editor_sees_and_revokes_only_their_own_keys(scenario: Scenario, client: Client) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    create_api_key(actor=editor, name="mine")
    theirs = create_api_key(actor=scenario.alice, name="the owner's")
    client.force_login(editor.user)
    page = client.get("/t/atelier/settings/keys/").content.decode()
    assert "mine" in page
    assert "the owner" not in page
    assert client.post(f"/t/atelier/settings/keys/{theirs.key.uid}/revoke/").status_code == 404
    theirs.key.refresh_from_db()
    assert theirs.key.revoked_at is None
