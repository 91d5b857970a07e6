"""Signing up and logging in, through the pages."""

from __future__ import annotations

import re

import pytest
from django.core import mail
from django.test import Client

from accounts.models import AuditEvent, Membership, Team, User
from tests.factories import UserFactory
from tests.scenario import Scenario

NEWCOMER = {
    "name": "Dora Maar",
    "email": "Dora@Example.org",
    "password1": "a long and quiet evening",
    "team": "Atelier Süd",
}


def sign_up(client: Client, **changes: str) -> object:
    return client.post("/account/signup/", {**NEWCOMER, **changes})


@pytest.mark.django_db
def test_sign_up_makes_a_person_with_a_team_of_their_own(client: Client) -> None:
    answer = client.post("/account/signup/", NEWCOMER)
    assert answer.status_code == 302
    assert answer["Location"] == "/"
    person = User.objects.get()
    assert (person.email, person.name, person.language) == ("dora@example.org", "Dora Maar", "en")
    membership = Membership.objects.get()
    assert (membership.user, membership.role) == (person, "owner")
    assert (membership.team.name, membership.team.slug) == ("Atelier Süd", "atelier-sud")
    assert list(AuditEvent.objects.for_team(membership.team).values_list("verb", flat=True)) == [
        "team.created"
    ]
    assert client.get("/")["Location"] == "/t/atelier-sud/"


@pytest.mark.django_db
def test_sign_up_without_a_team_name_names_the_team_after_the_person(client: Client) -> None:
    sign_up(client, team="")
    assert Team.objects.get().name == "Dora Maar's team"


@pytest.mark.django_db
def test_sign_up_keeps_the_language_of_the_page(client: Client) -> None:
    client.cookies["django_language"] = "zh-hans"
    sign_up(client)
    assert User.objects.get().language == "zh-hans"


@pytest.mark.django_db
def test_a_weak_password_is_refused_and_nothing_is_made(client: Client) -> None:
    answer = client.post("/account/signup/", {**NEWCOMER, "password1": "12345678"})
    assert answer.status_code == 200
    assert 'id="id_password1_error"' in answer.content.decode()
    assert (User.objects.count(), Team.objects.count()) == (0, 0)


@pytest.mark.django_db
def test_logging_in_goes_on_in_the_persons_language(client: Client) -> None:
    UserFactory(email="li@example.org", language="zh-hans")
    answer = client.post("/account/login/", {"login": "li@example.org", "password": "correct horse"})
    assert answer.status_code == 302
    assert answer.cookies["django_language"].value == "zh-hans"


@pytest.mark.django_db
def test_a_wrong_password_says_nothing_about_the_account(client: Client) -> None:
    UserFactory(email="li@example.org")
    known = client.post("/account/login/", {"login": "li@example.org", "password": "wrong"})
    unknown = client.post("/account/login/", {"login": "no@example.org", "password": "wrong"})

    def complaint(answer: object) -> list[str]:
        return re.findall(r'role="alert".*?<p>(.*?)</p>', answer.content.decode(), re.S)  # type: ignore[attr-defined]

    assert len(complaint(known)) == 1
    assert complaint(known) == complaint(unknown)


@pytest.mark.django_db
def test_a_forgotten_password_is_set_through_the_mailed_link(client: Client) -> None:
    person = UserFactory(email="li@example.org")
    assert client.post("/account/password/reset/", {"email": "li@example.org"}).status_code == 302
    assert len(mail.outbox) == 1
    link = re.search(r"http://testserver(/account/password/reset/key/\S+)", mail.outbox[0].body)
    assert link
    form = client.get(link[1], follow=True)
    address = form.request["PATH_INFO"]
    words = {"password1": "a brand new evening", "password2": "a brand new evening"}
    assert client.post(address, words).status_code == 302
    person.refresh_from_db()
    assert person.check_password("a brand new evening")
    assert 'href="/account/password/reset/"' in client.get(link[1], follow=True).content.decode()


def test_a_member_without_a_session_is_sent_to_the_login(scenario: Scenario, client: Client) -> None:
    answer = client.get("/t/atelier/settings/")
    assert answer.status_code == 302
    assert answer["Location"] == "/account/login/?next=/t/atelier/settings/"
