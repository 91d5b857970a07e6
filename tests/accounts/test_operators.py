"""Operators: a second factor for the admin, and acting as a person in the open and for a while."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEvent, User
from tests.scenario import Scenario


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("op@example.org", "a long pass phrase")


@pytest.fixture
def desk(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def act_as(desk: Client, person: User, reason: str = "ticket 12") -> int:
    answer = desk.post(f"/operate/act-as/{person.uid}/", {"reason": reason})
    return int(answer.status_code)


def test_an_operator_acts_as_a_person_under_a_banner_and_in_the_log(scenario: Scenario, desk: Client) -> None:
    assert act_as(desk, scenario.alice.user, reason=" ") == 422
    assert act_as(desk, scenario.alice.user) == 302
    page = desk.get("/t/atelier/").content.decode()
    assert "op@example.org acts as alice@example.org" in page
    desk.post("/t/atelier/settings/", {"name": "Renamed"})
    events = AuditEvent.objects.for_team(scenario.team).order_by("pk")
    assert [(e.verb, e.user, e.data["operator"]) for e in events] == [
        ("operator.acting_begun", scenario.alice.user, "op@example.org"),
        ("team.changed", scenario.alice.user, "op@example.org"),
    ]
    assert events[0].data["reason"] == "ticket 12"
    desk.post("/operate/end/")
    assert desk.get("/t/atelier/").status_code == 404
    assert desk.get("/admin/").status_code == 200


def test_it_ends_by_itself(scenario: Scenario, desk: Client) -> None:
    act_as(desk, scenario.alice.user)
    session = desk.session
    session["acting_as"] = {
        **session["acting_as"],
        "until": (timezone.now() - timedelta(seconds=1)).isoformat(),
    }
    session.save()
    assert desk.get("/t/atelier/").status_code == 404


@pytest.mark.parametrize("path", ["/account/password/change/", "/profile/", "/account/2fa/", "/admin/"])
def test_the_persons_own_account_stays_out_of_reach(scenario: Scenario, desk: Client, path: str) -> None:
    act_as(desk, scenario.alice.user)
    assert desk.get(path).status_code == 403


def test_nobody_else_acts_as_anybody_and_nobody_as_an_operator(
    scenario: Scenario, desk: Client, operator: User
) -> None:
    client = Client()
    client.force_login(scenario.alice.user)
    assert client.get(f"/operate/act-as/{scenario.bob.user.uid}/").status_code == 404
    assert act_as(client, scenario.bob.user) == 404
    other = User.objects.create_superuser("other@example.org", "a long pass phrase")
    assert act_as(desk, other) == 404
    assert not AuditEvent.objects.for_team(scenario.team).exists()


def test_operators_need_a_second_factor_where_it_is_asked(
    settings: object, desk: Client, operator: User
) -> None:
    settings.OPERATORS_NEED_TWO_FACTOR = True  # type: ignore[attr-defined]
    answer = desk.get("/admin/")
    assert (answer.status_code, answer["Location"]) == (302, "/account/2fa/")
    Authenticator.objects.create(user=operator, type=Authenticator.Type.TOTP, data={"secret": "x"})
    assert desk.get("/admin/").status_code == 200


def test_the_lists_of_people_teams_and_changes_open(scenario: Scenario, desk: Client) -> None:
    for page in ("accounts/user", "accounts/team", "accounts/auditevent"):
        assert desk.get(f"/admin/{page}/").status_code == 200
    assert f"/operate/act-as/{scenario.bob.user.uid}/" in desk.get("/admin/accounts/user/").content.decode()
