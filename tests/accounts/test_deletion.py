"""A person deletes their account: what goes, what stays, and when it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.core import mail
from django.test import Client
from django.utils import translation

from accounts.models import ApiKey, AuditEvent, Membership, Team, User
from accounts.roles import Role
from accounts.services.api_keys import actor_of_key, create_api_key
from accounts.services.invitations import accept_invitation, invite
from accounts.services.privacy import farewell_of
from accounts.services.teams import create_team
from tests.accounts.doors import browser, entered, is_in, log_in, with_app
from tests.factories import UserFactory, make_member
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db
PAGE = "/profile/delete/"


def leave(client: Client, person: User) -> Any:
    return client.post(PAGE, {"email": person.email})


def test_the_page_asks_for_the_password_and_then_says_what_happens(scenario: Scenario) -> None:
    bob = scenario.bob.user
    alone = create_team(owner=bob, name="Bob alone").team
    client = browser()
    log_in(client, bob)
    assert client.get(PAGE)["Location"].startswith("/account/reauthenticate/")
    assert leave(client, bob)["Location"].startswith("/account/reauthenticate/")
    page = entered(bob).get(PAGE).content.decode()
    assert alone.name in page
    assert scenario.team.name in page
    assert farewell_of(bob).closing == [alone]
    assert farewell_of(bob).leaving == [scenario.team]


def test_nothing_that_names_the_person_stays(
    scenario: Scenario, django_capture_on_commit_callbacks: Any
) -> None:
    carol = UserFactory(email="carol@example.org", name="Carol", time_zone="Asia/Tokyo", language="zh-hans")
    invited = invite(actor=scenario.alice, email=carol.email, role=Role.EDITOR)
    actor = accept_invitation(user=carol, invitation=invited)
    EmailAddress.objects.create(user=carol, email=carol.email, verified=True, primary=True)
    key = create_api_key(actor=actor, name="mine").text
    elsewhere, client = browser(), entered(carol)
    log_in(elsewhere, carol)
    with_app(client)
    uid, password = carol.uid, carol.password
    with django_capture_on_commit_callbacks(execute=True):
        answer = leave(client, carol)
    assert (answer.status_code, answer["Location"]) == (303, "/profile/deleted/")
    assert client.get("/profile/deleted/").status_code == 200
    assert (is_in(client), is_in(elsewhere)) == (False, False)

    gone = User.objects.get(uid=uid)
    assert (gone.name, gone.email) == ("", f"{uid}@deleted.invalid")
    assert (gone.is_active, gone.language, gone.time_zone) == (False, "en", "UTC")
    assert gone.deleted_at is not None
    with translation.override("en"):
        assert (str(gone), gone.password == password) == ("Deleted person", False)
    for kind in (EmailAddress, Authenticator, UserSession, Membership):
        assert not kind.objects.filter(user=gone).exists()
    assert Session.objects.count() == 0
    assert ApiKey.objects.for_team(scenario.team).get().revoked_at is not None
    assert actor_of_key(key) is None
    invited.refresh_from_db()
    assert invited.email == gone.email
    # One last mail, in their language.
    assert mail.outbox[-1].to == ["carol@example.org"]
    # The same address may begin anew.
    assert log_in(browser(), carol).status_code == 200
    UserFactory(email="carol@example.org")


def test_the_audit_log_keeps_what_was_done(scenario: Scenario) -> None:
    bob = scenario.bob.user
    leave(entered(bob), bob)
    entry = AuditEvent.objects.for_team(scenario.team).get()
    assert (entry.verb, entry.subject_uid, entry.subject_name) == (
        "member.deleted_account",
        bob.uid,
        "Deleted person",
    )
    assert entry.user == User.objects.get(uid=bob.uid)


def test_a_team_of_ones_own_is_deleted_softly_and_others_go_on(scenario: Scenario) -> None:
    bob = scenario.bob.user
    alone = create_team(owner=bob, name="Bob alone").team
    leave(entered(bob), bob)
    alone.refresh_from_db()
    assert alone.deleted_at is not None
    assert Team.objects.get(pk=scenario.team.pk).deleted_at is None
    assert Membership.objects.filter(team=scenario.team).count() == 1


def test_the_last_owner_of_a_team_with_others_must_choose_first(scenario: Scenario) -> None:
    alice = scenario.alice.user
    client = entered(alice)
    page = client.get(PAGE).content.decode()
    assert 'href="/t/atelier/settings/"' in page
    assert "Delete my account" not in page
    answer = leave(client, alice)
    assert answer.status_code == 422
    alice.refresh_from_db()
    assert (alice.email, alice.is_active) == ("alice@example.org", True)
    assert Membership.objects.filter(team=scenario.team).count() == 2
    assert is_in(client)
    # With a second owner she may go.
    make_member(scenario.team, Role.OWNER)
    assert leave(client, alice).status_code == 303


def test_a_wrong_address_deletes_nothing(scenario: Scenario) -> None:
    bob = scenario.bob.user
    answer = entered(bob).post(PAGE, {"email": "bobb@example.org"})
    assert answer.status_code == 422
    assert 'id="id_email_error"' in answer.content.decode()
    bob.refresh_from_db()
    assert bob.deleted_at is None


def test_the_only_operator_stays() -> None:
    operator = UserFactory(is_staff=True, is_superuser=True)
    client = entered(operator)
    assert leave(client, operator).status_code == 422
    operator.refresh_from_db()
    assert operator.is_superuser
    UserFactory(is_staff=True, is_superuser=True)
    assert leave(client, operator).status_code == 303
    operator.refresh_from_db()
    assert not operator.is_superuser


def test_what_they_made_shows_no_name_any_more(scenario: Scenario) -> None:
    carol = make_member(scenario.team, Role.EDITOR, name="Carol Named")
    create_api_key(actor=carol, name="robot")
    client = entered(scenario.alice.user)
    assert "Carol Named" in client.get("/t/atelier/settings/keys/").content.decode()
    leave(entered(carol.user), carol.user)
    page = client.get("/t/atelier/settings/keys/").content.decode()
    assert "Carol Named" not in page
    assert "Deleted person" in page
