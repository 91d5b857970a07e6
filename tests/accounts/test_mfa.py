"""Authenticator apps and recovery codes, through the pages."""

from __future__ import annotations

import pytest
from allauth.mfa.models import Authenticator
from django.core import mail

from accounts.models import User
from tests.accounts.doors import (
    PASSWORD,
    browser,
    code_of,
    confirm,
    entered,
    is_in,
    log_in,
    recovery_codes,
    with_app,
)
from tests.factories import UserFactory
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    return UserFactory(email="guarded@example.org", language="zh-hans")


def test_an_app_is_set_up_only_after_the_password_was_said_again(person: User) -> None:
    client = browser()
    log_in(client, person)
    answer = client.get("/account/2fa/totp/activate/")
    assert answer["Location"] == "/account/reauthenticate/?next=%2Faccount%2F2fa%2Ftotp%2Factivate%2F"
    confirm(client)
    page = client.get("/account/2fa/totp/activate/")
    assert page.status_code == 200
    # The policy allows pictures of that kind, and no script stands in the page.
    assert 'src="data:image/svg+xml;base64,' in page.content.decode()
    assert "data:" in page["Content-Security-Policy"].split("img-src")[1].split(";")[0]


def test_an_app_is_asked_for_its_code_at_the_next_login(person: User) -> None:
    secret = with_app(entered(person))
    assert person.has_second_factor
    client = browser()
    answer = log_in(client, person)
    assert answer["Location"] == "/account/2fa/authenticate/"
    assert not is_in(client)
    wrong = client.post("/account/2fa/authenticate/", {"code": "000000"})
    assert wrong.status_code == 200
    assert 'id="id_code_error"' in wrong.content.decode()
    assert not is_in(client)
    right = client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    assert (right.status_code, right["Location"]) == (302, "/")
    assert is_in(client)


def test_a_code_opens_once(person: User) -> None:
    secret = with_app(entered(person))
    for expected in (302, 200):
        client = browser()
        log_in(client, person)
        answer = client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
        assert answer.status_code == expected


def test_the_secret_is_not_readable_in_the_database(person: User) -> None:
    secret = with_app(entered(person))
    stored = str(list(Authenticator.objects.filter(user=person).values_list("data", flat=True)))
    assert secret not in stored
    assert len(stored) > 100


def test_a_recovery_code_opens_once_and_counts_down(person: User) -> None:
    client = entered(person)
    with_app(client)
    codes = recovery_codes(client)
    assert len(set(codes)) == 10
    for expected in (302, 200):
        other = browser()
        log_in(other, person)
        assert other.post("/account/2fa/authenticate/", {"code": codes[0]}).status_code == expected
    assert recovery_codes(client) == codes[1:]
    file = client.get("/account/2fa/recovery-codes/download/")
    assert file["Content-Disposition"] == 'attachment; filename="recovery-codes.txt"'
    assert file.content.decode().split()[-9:] == codes[1:]


def test_new_recovery_codes_end_the_old_ones(person: User) -> None:
    client = entered(person)
    with_app(client)
    before = recovery_codes(client)
    assert client.post("/account/2fa/recovery-codes/generate/").status_code == 302
    assert set(recovery_codes(client)).isdisjoint(before)
    other = browser()
    log_in(other, person)
    assert other.post("/account/2fa/authenticate/", {"code": before[0]}).status_code == 200


def test_the_app_is_switched_off_and_its_recovery_codes_go_with_it(person: User) -> None:
    client = entered(person)
    with_app(client)
    assert client.post("/account/2fa/totp/deactivate/").status_code == 302
    assert Authenticator.objects.filter(user=person).count() == 0
    assert log_in(browser(), person)["Location"] == "/"


@pytest.mark.django_db(transaction=True)
def test_every_change_is_told_by_mail_in_the_persons_language(person: User) -> None:
    client = entered(person, HTTP_ACCEPT_LANGUAGE="en")
    with_app(client)
    client.post("/account/2fa/recovery-codes/generate/")
    client.post("/account/2fa/totp/deactivate/")
    assert [sent.to for sent in mail.outbox] == [[person.email]] * 3
    assert all(any("一" <= letter <= "鿿" for letter in sent.subject) for sent in mail.outbox)
    assert [len(sent.alternatives) for sent in mail.outbox] == [1, 1, 1]
    assert "2001:db8:" in mail.outbox[0].body
    assert "Firefox" in mail.outbox[0].body


def test_a_team_that_asks_for_a_second_factor_opens_once_there_is_one(scenario: Scenario) -> None:
    scenario.team.require_two_factor = True
    scenario.team.save()
    client = entered(scenario.bob.user)
    assert client.get("/t/atelier/")["Location"] == "/account/2fa/"
    assert client.get("/account/2fa/").status_code == 200
    with_app(client)
    assert client.get("/t/atelier/").status_code == 200
    client.post("/account/2fa/totp/deactivate/")
    assert client.get("/t/atelier/").status_code == 302


def test_the_code_stands_in_for_the_password_when_a_page_asks_again(person: User) -> None:
    secret = with_app(entered(person))
    client = browser()
    log_in(client, person)
    client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    page = client.get("/account/2fa/totp/deactivate/", follow=True).content.decode()
    assert 'href="/account/2fa/reauthenticate/?next=' in page
    answer = client.post("/account/2fa/reauthenticate/", {"code": code_of(secret, 1), "next": "/profile/"})
    assert (answer.status_code, answer["Location"]) == (302, "/profile/")
    assert client.get("/account/2fa/totp/deactivate/").status_code == 200


def test_guessing_codes_is_stopped_for_the_account_wherever_it_comes_from(person: User) -> None:
    secret = with_app(entered(person))
    # Tries of the person's own that were right count for nothing.
    for _try in range(5):
        client = browser()
        log_in(client, person)
        client.post("/account/2fa/authenticate/", {"code": "000000"})
    client = browser()
    assert log_in(client, person, PASSWORD).status_code == 302
    answer = client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    assert answer.status_code == 200
    assert not is_in(client)
