"""Security keys and passkeys, with a key in software that speaks the real protocol."""

from __future__ import annotations

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts.models import User
from tests.accounts.doors import SoftwareKey, browser, entered, is_in, log_in, options_on
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
ADD, LOGIN = "/account/2fa/webauthn/add/", "/account/2fa/webauthn/login/"


@pytest.fixture
def person() -> User:
    return UserFactory()


def add_key(client: Client, key: SoftwareKey, name: str = "Blue key", *, is_passkey: bool = False) -> None:
    options = options_on(client.get(ADD).content.decode())
    form = {"name": name, "credential": key.create(options, is_passkey=is_passkey)}
    if is_passkey:
        form["passwordless"] = "on"
    answer = client.post(ADD, form)
    assert answer.status_code == 302, answer.content.decode()


def test_a_key_is_the_second_factor_at_log_in(person: User) -> None:
    key = SoftwareKey()
    add_key(entered(person), key)
    client = browser()
    assert log_in(client, person)["Location"] == "/account/2fa/authenticate/"
    options = options_on(client.get("/account/2fa/authenticate/").content.decode())
    answer = client.post("/account/2fa/authenticate/", {"credential": key.get(options)})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert is_in(client)


def test_another_key_or_another_site_does_not_open(person: User) -> None:
    key = SoftwareKey()
    add_key(entered(person), key)
    stranger = SoftwareKey(id=key.id, user_handle=key.user_handle)
    elsewhere = SoftwareKey(origin="https://evil.example", secret=key.secret, id=key.id)
    for wrong in (stranger, elsewhere):
        client = browser()
        log_in(client, person)
        options = options_on(client.get("/account/2fa/authenticate/").content.decode())
        answer = client.post("/account/2fa/authenticate/", {"credential": wrong.get(options)})
        assert answer.status_code == 200
        assert not is_in(client)


@pytest.mark.parametrize("rubbish", ["", "{}", "[]", "1", '{"id": 1}', "not json"])
def test_rubbish_in_place_of_a_key_is_refused(person: User, rubbish: str) -> None:
    client = entered(person)
    client.get(ADD)
    assert client.post(ADD, {"credential": rubbish}).status_code == 200
    assert Authenticator.objects.count() == 0
    visitor = browser()
    visitor.get(LOGIN, headers={"accept": "application/json"})
    assert visitor.post(LOGIN, {"credential": rubbish})["Location"] == "/account/login/"


def test_a_passkey_opens_without_address_and_password(person: User) -> None:
    key = SoftwareKey()
    add_key(entered(person), key, is_passkey=True)
    client = browser()
    asked = client.get(LOGIN, headers={"accept": "application/json"}).json()
    options = asked["request_options"]["publicKey"]
    # The page gives nothing away about who has a key here.
    assert options.get("allowCredentials", []) == []
    answer = client.post(LOGIN, {"credential": key.get(options, is_verified=True), "next": "/profile/"})
    assert (answer.status_code, answer["Location"]) == (302, "/profile/")
    assert is_in(client)


def test_a_passkey_without_fingerprint_or_pin_does_not_open(person: User) -> None:
    key = SoftwareKey()
    add_key(entered(person), key, is_passkey=True)
    client = browser()
    options = client.get(LOGIN, headers={"accept": "application/json"}).json()["request_options"]["publicKey"]
    assert client.post(LOGIN, {"credential": key.get(options)})["Location"] == "/account/login/"
    assert not is_in(client)


def test_keys_are_listed_renamed_and_removed_by_their_owner_only(person: User) -> None:
    client = entered(person)
    add_key(client, SoftwareKey())
    page = client.get("/account/2fa/webauthn/").content.decode()
    assert "Blue key" in page
    pk = Authenticator.objects.get(type="webauthn").pk
    stranger = entered(UserFactory())
    for action in ("edit", "remove"):
        assert stranger.post(f"/account/2fa/webauthn/keys/{pk}/{action}/", {"name": "x"}).status_code == 404
    assert client.post(f"/account/2fa/webauthn/keys/{pk}/edit/", {"name": "Drawer"}).status_code == 302
    assert "Drawer" in client.get("/account/2fa/webauthn/").content.decode()
    assert client.post(f"/account/2fa/webauthn/keys/{pk}/remove/").status_code == 302
    assert not person.has_second_factor


def test_a_key_stands_in_for_the_password_when_a_page_asks_again(person: User) -> None:
    key = SoftwareKey()
    add_key(entered(person), key)
    client = browser()
    log_in(client, person)
    options = options_on(client.get("/account/2fa/authenticate/").content.decode())
    client.post("/account/2fa/authenticate/", {"credential": key.get(options)})
    address = "/account/2fa/webauthn/reauthenticate/"
    options = options_on(client.get(address).content.decode())
    answer = client.post(address, {"credential": key.get(options), "next": "/profile/"})
    assert (answer.status_code, answer["Location"]) == (302, "/profile/")
    assert client.get(ADD).status_code == 200
