"""Teams: make, hand over, delete, restore; and the second factor a team may ask for."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from django.test import Client

from accounts.models import AuditEvent, Membership, Team
from accounts.roles import Role
from accounts.services.api_keys import create_api_key
from tests.accounts.doors import PASSWORD, browser, entered
from tests.scenario import Scenario


def give_second_factor(user: object) -> None:
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})


def test_a_person_makes_a_second_team_and_switches(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    answer = client.post("/teams/new/", {"name": "Bob's own"})
    assert (answer.status_code, answer["Location"]) == (303, "/t/bobs-own/")
    page = client.get("/t/bobs-own/").content.decode()
    assert "/t/atelier/" in page
    assert Membership.objects.get(team__slug="bobs-own").role == Role.OWNER


def test_a_person_without_a_team_is_led_to_making_one(scenario: Scenario, client: Client) -> None:
    Membership.objects.filter(user=scenario.bob.user).delete()
    client.force_login(scenario.bob.user)
    assert client.get("/")["Location"] == "/teams/new/"
    assert client.get("/teams/new/").status_code == 200


def test_an_owner_hands_the_team_over(scenario: Scenario, client: Client) -> None:
    client = entered(scenario.alice.user)
    client.post("/t/atelier/settings/transfer/", {"user": scenario.bob.user.uid})
    roles = dict(Membership.objects.filter(team=scenario.team).values_list("user__name", "role"))
    assert roles == {"Alice": "admin", "Bob": "owner"}
    assert client.post("/t/atelier/settings/delete/", {"name": scenario.team.name}).status_code == 403


def test_a_team_is_handed_to_members_only(scenario: Scenario, client: Client) -> None:
    client = entered(scenario.alice.user)
    answer = client.post("/t/atelier/settings/transfer/", {"user": scenario.charlie.user.uid})
    assert answer.status_code == 404
    assert Membership.objects.get(team=scenario.team, role=Role.OWNER).user == scenario.alice.user


def test_a_deleted_team_is_closed_to_everybody_and_comes_back_whole(
    scenario: Scenario, client: Client
) -> None:
    headers = {"Authorization": f"Bearer {create_api_key(actor=scenario.alice, name='k').text}"}
    client = entered(scenario.alice.user)
    assert client.post("/t/atelier/settings/delete/", {"name": "wrong"}).status_code == 422
    page = client.post("/t/atelier/settings/delete/", {"name": scenario.team.name}, follow=True)
    assert "For 14 days you can restore it here." in page.content.decode()
    bob = Client()
    bob.force_login(scenario.bob.user)
    for visitor in (client, bob):
        assert visitor.get("/t/atelier/").status_code == 404
    assert client.get("/api/v1/me", headers=headers).status_code == 401
    assert bob.post(f"/teams/{scenario.team.uid}/restore/").status_code == 404
    client.post(f"/teams/{scenario.team.uid}/restore/")
    assert bob.get("/t/atelier/").status_code == 200
    assert client.get("/api/v1/me", headers=headers).status_code == 200
    verbs = AuditEvent.objects.for_team(scenario.team).values_list("verb", flat=True)
    assert {"team.deleted", "team.restored"} <= set(verbs)


def test_ending_the_team_asks_for_the_password_again_and_then_goes_on(scenario: Scenario) -> None:
    client = browser()
    client.force_login(scenario.alice.user)
    answer = client.post("/t/atelier/settings/delete/", {"name": scenario.team.name})
    assert answer["Location"].startswith("/account/reauthenticate/")
    scenario.team.refresh_from_db()
    assert scenario.team.deleted_at is None
    client.post(answer["Location"], {"password": PASSWORD}, follow=True)
    scenario.team.refresh_from_db()
    assert scenario.team.deleted_at is not None


def test_only_an_owner_deletes_the_team(scenario: Scenario, client: Client) -> None:
    Membership.objects.filter(user=scenario.bob.user).update(role=Role.ADMIN)
    client.force_login(scenario.bob.user)
    assert client.post("/t/atelier/settings/delete/", {"name": scenario.team.name}).status_code == 403
    assert Team.objects.get(pk=scenario.team.pk).deleted_at is None


def test_a_team_that_asks_for_a_second_factor_shows_nothing_without(
    scenario: Scenario, client: Client
) -> None:
    form = {"name": scenario.team.name, "require_two_factor": "on"}
    client.force_login(scenario.alice.user)
    assert client.post("/t/atelier/settings/", form).status_code == 422  # she would lock herself out
    give_second_factor(scenario.alice.user)
    assert client.post("/t/atelier/settings/", form).status_code == 303
    bob = Client()
    bob.force_login(scenario.bob.user)
    answer = bob.get("/t/atelier/")
    assert (answer.status_code, answer["Location"]) == (302, "/account/2fa/")
    assert bob.post("/t/atelier/settings/leave/").status_code == 403
    give_second_factor(scenario.bob.user)
    assert bob.get("/t/atelier/").status_code == 200


def test_a_key_of_somebody_without_the_second_factor_is_told_so(scenario: Scenario, client: Client) -> None:
    headers = {"Authorization": f"Bearer {create_api_key(actor=scenario.alice, name='k').text}"}
    Team.objects.filter(pk=scenario.team.pk).update(require_two_factor=True)
    answer = client.get("/api/v1/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "two_factor_required")
