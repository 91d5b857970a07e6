"""Nobody gets further than they were let: an operator in somebody's place, a key, a person who was removed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, Invitation, Membership, Team, User
from accounts.roles import Can, Role
from accounts.services.erasure import erase_deleted_teams, erase_team
from accounts.services.invitations import accept_invitation, invite
from accounts.services.memberships import change_role, remove_member
from accounts.services.teams import delete_team, restore_team
from core import storage
from core.errors import Conflict, PermissionDenied
from projects.models import Project, ProjectMember
from projects.services.projects import change_visibility, create_project
from tests.api.clients import API, with_key, with_token
from tests.factories import UserFactory, make_member
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


# -- Operators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/t/atelier/settings/keys/new/", {"name": "mine"}),
        ("/t/atelier/settings/webhooks/new/", {"url": "https://hooks.example.org/"}),
        ("/t/atelier/settings/invitations/new/", {"email": "me@example.org", "role": "admin"}),
        ("/t/atelier/settings/transfer/", {"user": "usr_x"}),
        ("/t/atelier/settings/delete/", {"name": "Atelier"}),
        ("/t/atelier/settings/exports/new/", {}),
        ("/notifications/preferences/", {}),
        ("/notifications/read/", {}),
    ],
)
def test_an_operator_in_a_persons_place_makes_nothing_that_outlasts_it(
    scenario: Scenario, path: str, data: dict[str, str]
) -> None:
    desk = Client()
    desk.force_login(User.objects.create_superuser("op@example.org", "a long pass phrase"))
    desk.post(f"/operate/act-as/{scenario.alice.user.uid}/", {"reason": "ticket 12"})
    assert desk.get("/t/atelier/").status_code == 200
    assert desk.post(path, data).status_code == 403
    assert not ApiKey.objects.for_team(scenario.team).exists()
    assert not Invitation.objects.for_team(scenario.team).exists()
    assert desk.get("/notifications/").status_code == 200


# -- Keys -------------------------------------------------------------------------------------------------------


def key_body(**changes: Any) -> dict[str, Any]:
    soon = (timezone.now() + timedelta(minutes=30)).isoformat()
    return {
        "name": "child",
        "test": True,
        "expires_at": soon,
        "allowed_networks": ["127.0.0.0/9"],
        "scopes": ["api_keys:write"],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"test": False}, "test_key"),
        ({"expires_at": None}, "outlives_maker"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "outlives_maker"),
        ({"allowed_networks": []}, "outreaches_maker"),
        ({"allowed_networks": ["127.0.0.0/8", "10.0.0.0/8"]}, "outreaches_maker"),
        ({"allowed_networks": ["::1/128"]}, "outreaches_maker"),
    ],
)
def test_a_key_makes_no_key_that_reaches_further(
    scenario: Scenario, changes: dict[str, Any], code: str
) -> None:
    maker = with_key(
        scenario.alice,
        scopes=(Can.API_KEYS,),
        is_test=True,
        expires_at=timezone.now() + timedelta(hours=1),
        allowed_networks=["127.0.0.0/8"],
    )
    refused = maker.post(f"{API}/api_keys", key_body(**changes), format="json")
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert ApiKey.objects.for_team(scenario.team).count() == 1
    assert maker.post(f"{API}/api_keys", key_body(), format="json").status_code == 201


def test_no_key_makes_owners(scenario: Scenario) -> None:
    key = with_key(scenario.alice, scopes=(Can.MEMBERS, Can.TEAM_VIEW))
    bob = f"{API}/members/{scenario.bob.user.uid}"
    assert key.patch(bob, {"role": "owner"}, format="json").status_code == 403
    body = {"email": "me@example.org", "role": "owner"}
    assert key.post(f"{API}/invitations", body, format="json").status_code == 403
    assert key.patch(bob, {"role": "admin"}, format="json").status_code == 200
    assert with_token(scenario.alice).patch(bob, {"role": "owner"}, format="json").status_code == 200


# -- People who were removed ------------------------------------------------------------------------------------


def test_an_invitation_ends_with_the_right_of_who_sent_it(scenario: Scenario) -> None:
    admin = make_member(scenario.team, Role.ADMIN)
    invitation = invite(actor=admin, email="again@example.org", role=Role.ADMIN)
    again = UserFactory(email="again@example.org")
    change_role(actor=scenario.alice, user_uid=admin.user.uid, role=Role.EDITOR)
    with pytest.raises(Conflict, match="has ended"):
        accept_invitation(user=again, invitation=invitation)
    remove_member(actor=scenario.alice, user_uid=admin.user.uid)
    with pytest.raises(Conflict, match="has ended"):
        accept_invitation(user=again, invitation=invitation)
    assert not Membership.objects.filter(team=scenario.team, user=again).exists()


def test_an_admin_leaves_the_invitation_of_an_owner_alone(scenario: Scenario) -> None:
    invitation = invite(actor=scenario.alice, email="heir@example.org", role=Role.OWNER)
    admin = with_token(make_member(scenario.team, Role.ADMIN))
    body = {"email": "heir@example.org", "role": "viewer"}
    assert admin.post(f"{API}/invitations", body, format="json").status_code == 403
    assert admin.delete(f"{API}/invitations/{invitation.uid}").status_code == 403
    invitation.refresh_from_db()
    assert (invitation.role, invitation.revoked_at) == ("owner", None)


def test_who_comes_back_is_on_no_list_any_more(scenario: Scenario) -> None:
    project = create_project(actor=scenario.alice, name="Secret")
    change_visibility(
        actor=scenario.alice, uid=project.uid, is_restricted=True, user_uids=[scenario.bob.user.uid]
    )
    remove_member(actor=scenario.alice, user_uid=scenario.bob.user.uid)
    assert not ProjectMember.objects.for_team(scenario.team).exists()


def test_restricting_a_project_leaves_its_list_unless_told(scenario: Scenario) -> None:
    project = create_project(actor=scenario.alice, name="Secret")
    bob = scenario.bob.user.uid
    change_visibility(actor=scenario.alice, uid=project.uid, is_restricted=False, user_uids=[bob])
    address = f"{API}/projects/{project.uid}"
    assert with_token(scenario.alice).patch(address, {"restricted": True}, format="json").status_code == 200
    assert Project.objects.for_team(scenario.team).get().is_restricted
    assert ProjectMember.objects.for_team(scenario.team).get().user == scenario.bob.user


def test_without_the_second_factor_the_bell_tells_nothing_of_the_team(scenario: Scenario) -> None:
    make_member(scenario.team, Role.EDITOR, name="Dana")
    invitation = invite(actor=scenario.alice, email="eve@example.org", role=Role.VIEWER)
    accept_invitation(user=UserFactory(email="eve@example.org", name="Eve"), invitation=invitation)
    client = Client()
    client.force_login(scenario.alice.user)
    assert "Eve" in client.get("/notifications/").content.decode()
    Team.objects.filter(pk=scenario.team.pk).update(require_two_factor=True)
    assert "Eve" not in client.get("/notifications/").content.decode()


# -- Erasing ----------------------------------------------------------------------------------------------------


def gone_for(scenario: Scenario, days: float) -> Team:
    delete_team(actor=scenario.alice, name=scenario.team.name)
    Team.objects.filter(pk=scenario.team.pk).update(deleted_at=timezone.now() - timedelta(days=days))
    return Team.objects.get(pk=scenario.team.pk)


def test_a_team_that_was_restored_meanwhile_is_not_erased(scenario: Scenario) -> None:
    team = gone_for(scenario, 15)
    restore_team(owner=scenario.alice.user, uid=team.uid)
    assert erase_team(team) == {}
    assert Team.objects.filter(pk=team.pk, deleted_at=None).exists()


def test_a_team_that_is_being_erased_is_not_restored_and_one_failure_stops_nobody(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = gone_for(scenario, 16)
    other = Team.objects.get(pk=scenario.charlie.team.pk)
    Team.objects.filter(pk=other.pk).update(deleted_at=timezone.now() - timedelta(days=15))
    delete = storage.delete_team

    def failing(uid: str) -> None:
        if uid == team.uid:
            with pytest.raises(Conflict, match="being erased"):
                restore_team(owner=scenario.alice.user, uid=uid)
            raise OSError("no storage")
        delete(uid)

    monkeypatch.setattr(storage, "delete_team", failing)
    assert erase_deleted_teams() == 1
    assert not Team.objects.filter(pk=other.pk).exists()
    assert Team.objects.filter(pk=team.pk).exists()
    monkeypatch.setattr(storage, "delete_team", delete)
    assert erase_deleted_teams() == 1


def test_nobody_gives_a_role_above_their_own(scenario: Scenario) -> None:
    admin = make_member(scenario.team, Role.ADMIN)
    with pytest.raises(PermissionDenied):
        invite(actor=admin, email="o@example.org", role=Role.OWNER)
