"""Guessing is slowed down, for an address and for an account, and nothing tells whether there is an account."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest
from django.contrib.auth import hashers
from django.core import mail
from django.http import HttpResponse

from accounts.models import User
from tests.accounts.doors import browser, entered, log_in
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    return UserFactory(email=f"victim-{secrets.token_hex(4)}@example.org")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[str]:
    """Count how often a password is hashed: that is what takes the time."""
    done: list[str] = []

    class CountingHasher(hashers.MD5PasswordHasher):
        def encode(self, password: str, salt: str) -> str:
            done.append("hash")
            return str(super().encode(password, salt))

    counting = f"{__name__}.CountingHasher"
    monkeypatch.setitem(globals(), "CountingHasher", CountingHasher)
    settings.PASSWORD_HASHERS = [counting]
    return done


def unknown() -> str:
    return f"nobody-{secrets.token_hex(4)}@example.org"


def words_of(answer: HttpResponse) -> str:
    """Return the page without what differs at every visit: tokens, the request's number, the address typed."""
    text = answer.content.decode()
    for pattern in (
        r'value="[^"]*"',
        r"req_\w+",
        r'nonce="[^"]*"',
        r'"X-CSRFToken": "[^"]*"',
        r"\S+@example\.org",
    ):
        text = re.sub(pattern, "", text)
    return text


@pytest.mark.slow
def test_a_thousand_tries_from_everywhere_reach_the_account_five_times(person: User) -> None:
    tried = 0
    for number in range(200):
        client = browser()
        for _try in range(5):
            answer = log_in(client, person, f"guess {number}")
            assert answer.status_code == 200
            tried += "not correct" in answer.content.decode()
    assert tried == 5
    # Even the right one has to wait, and the guesser cannot tell.
    assert "Too many" in log_in(browser(), person).content.decode()


def test_one_address_that_tries_many_accounts_is_stopped() -> None:
    client = browser()
    statuses = [
        client.post("/account/login/", {"login": unknown(), "password": "guess"}).status_code
        for _try in range(40)
    ]
    assert statuses[:10] == [200] * 10
    assert statuses[-1] == 429
    page = client.post("/account/login/", {"login": unknown(), "password": "guess"})
    assert "That was too often" in page.content.decode()


def test_right_passwords_do_not_use_up_the_tries_of_an_office() -> None:
    address = f"2001:db8:{secrets.token_hex(2)}::7"
    for _person in range(15):
        person = UserFactory(email=unknown())
        assert log_in(browser(REMOTE_ADDR=address), person).status_code == 302


@pytest.mark.parametrize(
    ("address", "form", "most"),
    [
        ("/account/password/reset/", {"email": "{}"}, 10),
        ("/account/signup/", {"name": "N", "email": "{}", "password1": "12345678"}, 20),
    ],
)
def test_forms_of_strangers_are_limited_for_an_address(address: str, form: dict[str, str], most: int) -> None:
    client = browser()
    statuses = [
        client.post(address, {name: text.format(unknown()) for name, text in form.items()}).status_code
        for _try in range(most + 1)
    ]
    assert 429 not in statuses[:most]
    assert statuses[most] == 429


def test_one_account_gets_only_a_few_mails_about_a_forgotten_password(person: User) -> None:
    statuses = [
        browser().post("/account/password/reset/", {"email": person.email}).status_code for _try in range(6)
    ]
    assert len(mail.outbox) == 3
    assert statuses[3:] == [429] * 3


def test_guessing_the_password_of_an_open_session_is_stopped(person: User) -> None:
    client = entered(person)
    answers = [
        client.post("/account/reauthenticate/", {"password": "guess"}).content.decode() for _try in range(8)
    ]
    assert "Too many" in answers[-1]


def test_log_in_tells_nothing_about_the_account(person: User, work: list[str]) -> None:
    person.set_password("correct horse")
    person.save()
    closed = UserFactory(email=unknown(), is_active=False)
    without = UserFactory(email=unknown())
    without.set_unusable_password()
    without.save()
    answers, hashes = [], []
    for email in (person.email, unknown(), closed.email, without.email):
        work.clear()
        answer = browser().post("/account/login/", {"login": email, "password": "wrong"})
        answers.append((answer.status_code, words_of(answer)))
        hashes.append(len(work))
    assert answers[1:] == answers[:1] * 3
    assert hashes[1:] == hashes[:1] * 3


def test_a_forgotten_password_tells_nothing_about_the_account(person: User, work: list[str]) -> None:
    seen = []
    for email in (person.email, unknown()):
        work.clear()
        mail.outbox.clear()
        answer = browser().post("/account/password/reset/", {"email": email})
        seen.append(
            (
                answer.status_code,
                answer["Location"],
                len(work),
                [sent.to for sent in mail.outbox] == [[email]],
            )
        )
    assert seen[0] == seen[1] == (302, "/account/password/reset/done/", 0, True)


def test_signing_up_tells_nothing_about_the_account(person: User, work: list[str], settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"  # as in production
    seen = []
    for email in (person.email, unknown()):
        work.clear()
        mail.outbox.clear()
        client = browser()
        form = {"name": "N", "email": email, "password1": "a long and quiet evening"}
        answer = client.post("/account/signup/", form)
        page = client.get(answer["Location"])
        mails = [sent.to for sent in mail.outbox]
        seen.append((answer.status_code, answer["Location"], words_of(page), len(work), mails == [[email]]))
    assert seen[0] == seen[1]
    assert seen[0][:2] == (302, "/account/confirm-email/")
    assert User.objects.filter(email=person.email).count() == 1


def test_the_owner_of_the_address_is_told_of_the_attempt(person: User, settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    form = {"name": "N", "email": person.email, "password1": "a long and quiet evening"}
    browser().post("/account/signup/", form)
    assert mail.outbox[0].subject == "You have an account already"
    person.refresh_from_db()
    assert person.check_password("correct horse")
