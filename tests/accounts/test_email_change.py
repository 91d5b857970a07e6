"""A new e-mail address: the new one is asked, the old one is told."""

from __future__ import annotations

import re
import secrets

import pytest
from allauth.account.models import EmailAddress
from django.core import mail

from accounts.models import User
from tests.accounts.doors import browser, entered, is_in, log_in, with_app
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
PAGE = "/account/email/"
# What limits count outlives a test.
NEW, TAKEN = (f"{word}-{secrets.token_hex(4)}@example.org" for word in ("new", "taken"))


@pytest.fixture
def person() -> User:
    person = UserFactory(email="old@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    return person


def link_in(body: str) -> str:
    found = re.search(r"http://localhost(/account/confirm-email/\S+)", body)
    assert found, body
    return found[1]


def test_the_new_address_counts_once_its_link_was_opened_and_the_old_one_is_told(person: User) -> None:
    client = entered(person)
    assert client.post(PAGE, {"email": NEW.title(), "action_add": ""}).status_code == 302
    assert [sent.to for sent in mail.outbox] == [[NEW]]
    person.refresh_from_db()
    assert person.email == "old@example.org"
    assert f"Waiting for {NEW}" in client.get(PAGE).content.decode()
    assert log_in(browser(), person).status_code == 302

    assert client.post(link_in(mail.outbox[0].body)).status_code == 302
    person.refresh_from_db()
    assert person.email == NEW
    assert list(EmailAddress.objects.values_list("email", "verified", "primary")) == [(NEW, True, True)]
    assert mail.outbox[1].to == ["old@example.org"]
    assert NEW in mail.outbox[1].body
    assert log_in(browser(), person).status_code == 302


def test_a_change_asks_for_the_password_first(person: User) -> None:
    client = browser()
    log_in(client, person)
    answer = client.post(PAGE, {"email": NEW, "action_add": ""})
    assert answer["Location"].startswith("/account/reauthenticate/")
    assert mail.outbox == []


def test_an_address_that_was_never_confirmed_still_opens_while_the_new_one_waits() -> None:
    person = UserFactory(email="never@example.org")
    client = entered(person)
    client.get(PAGE)  # allauth notes the address as it is
    client.post(PAGE, {"email": NEW, "action_add": ""})
    person.refresh_from_db()
    assert person.email == "never@example.org"
    assert log_in(browser(), person).status_code == 302


def test_a_second_factor_does_not_stand_in_the_way(person: User) -> None:
    client = entered(person)
    with_app(client)
    client.post(PAGE, {"email": NEW, "action_add": ""})
    client.post(link_in(mail.outbox[-1].body))
    person.refresh_from_db()
    assert person.email == NEW


def test_the_address_of_somebody_else_is_not_taken_and_nothing_tells_that_it_exists(person: User) -> None:
    UserFactory(email=TAKEN)  # never confirmed, but they log in with it
    client = entered(person)
    answers = [client.post(PAGE, {"email": email, "action_add": ""}) for email in (TAKEN, "free@example.org")]
    assert [(a.status_code, a["Location"]) for a in answers] == [(302, PAGE)] * 2
    links = [sent for sent in mail.outbox if sent.to == [TAKEN]]
    client.post(link_in(links[0].body), follow=True)
    person.refresh_from_db()
    assert person.email == "old@example.org"


def test_a_change_is_taken_back_while_it_waits(person: User) -> None:
    client = entered(person)
    client.post(PAGE, {"email": NEW, "action_add": ""})
    client.post(PAGE, {"email": NEW, "action_remove": ""})
    assert list(EmailAddress.objects.values_list("email", flat=True)) == ["old@example.org"]
    client.post(link_in(mail.outbox[0].body))
    person.refresh_from_db()
    assert person.email == "old@example.org"
    assert is_in(client)
