"""Logins through other services, end to end against an OpenID provider that runs beside the test."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ
import pytest
import requests
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.http import HttpResponse
from django.test import Client

from accounts.models import Membership, User
from accounts.roles import Role
from accounts.services.invitations import invite, link_of
from config.people import social_providers
from tests.accounts.doors import browser, code_of, entered, is_in, with_app
from tests.accounts.oidc_provider import CLIENT_ID, SECRET, OpenIdProvider, running_provider
from tests.factories import UserFactory
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db
START = "/account/oidc/sso/login/"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[OpenIdProvider]:
    """Run a provider and set the installation up for it the way an operator does."""
    with running_provider() as provider:
        secret = tmp_path / "secret"
        secret.write_text(SECRET)
        monkeypatch.setenv("LF_OIDC_NAME", "Studio login")
        monkeypatch.setenv("LF_OIDC_SERVER_URL", provider.url)
        monkeypatch.setenv("LF_OIDC_CLIENT_ID", CLIENT_ID)
        monkeypatch.setenv("LF_OIDC_SECRET_FILE", str(secret))
        settings.SOCIALACCOUNT_PROVIDERS = social_providers(environ.FileAwareEnv())
        provider.claims = {
            "sub": "42",
            "email": "Hannah@Example.org",
            "email_verified": True,
            "name": "Hannah Höch",
        }
        yield provider


def address_on(page: HttpResponse) -> str:
    """Return where the page between leads to."""
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page.content.decode())
    assert found, page.content.decode()
    return html.unescape(found[1])


def go_through(client: Client, process: str = "login", **query: str) -> HttpResponse:
    """Press the button, log in over there, and come back."""
    words = "&".join(f"{name}={value}" for name, value in {"process": process, **query}.items())
    onward = client.post(f"{START}?{words}")
    assert onward.status_code == 200
    back = requests.get(address_on(onward), allow_redirects=False, timeout=10).headers["Location"]
    assert back.startswith("http://localhost/account/oidc/sso/login/callback/?")
    return client.get(back.removeprefix("http://localhost"))


def test_without_settings_there_is_no_button_and_no_address() -> None:
    client = browser()
    for page in ("/account/login/", "/account/signup/"):
        assert "/login/?process" not in client.get(page).content.decode()
    for service in ("oidc/sso", "google", "github"):
        assert client.post(f"/account/{service}/login/").status_code == 404
        assert client.get(f"/account/{service}/login/").status_code == 404
        assert client.get(f"/account/{service}/login/callback/?code=1&state=2").status_code == 404
    profile = entered(UserFactory()).get("/profile/").content.decode()
    assert "/account/3rdparty/" not in profile


def test_each_service_that_is_set_gets_its_button(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    for name in ("GOOGLE", "GITHUB"):
        monkeypatch.setenv(f"LF_{name}_CLIENT_ID", f"id of {name}")
        monkeypatch.setenv(f"LF_{name}_SECRET", "secret")
    settings.SOCIALACCOUNT_PROVIDERS = social_providers(environ.FileAwareEnv())
    client = browser()
    for page in ("/account/login/", "/account/signup/"):
        shown = client.get(page).content.decode()
        assert 'action="/account/google/login/?process=login"' in shown
        assert 'action="/account/github/login/?process=login"' in shown
        assert "/account/oidc/" not in shown
    target = urlsplit(address_on(client.post("/account/google/login/?process=login")))
    query = parse_qs(target.query)
    assert target.netloc == "accounts.google.com"
    assert query["client_id"] == ["id of GOOGLE"]
    assert query["code_challenge_method"] == ["S256"]


def test_a_newcomer_gets_an_account_and_a_team(provider: OpenIdProvider) -> None:
    client = browser()
    assert "Go on with Studio login" in client.get("/account/login/").content.decode()
    answer = go_through(client)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    person = User.objects.get()
    assert (person.email, person.name) == ("hannah@example.org", "Hannah Höch")
    assert not person.has_usable_password()
    membership = Membership.objects.get()
    assert (membership.user, membership.role) == (person, "owner")
    assert membership.team.name == "Hannah Höch's team"
    assert EmailAddress.objects.get(user=person).verified
    assert is_in(client)
    assert "POST /token" in provider.asked
    assert "GET /userinfo" in provider.asked


def test_who_came_before_comes_into_the_same_account(provider: OpenIdProvider) -> None:
    go_through(browser())
    provider.claims["email"] = "married@example.org"
    client = browser()
    assert go_through(client, next="/profile/")["Location"] == "/profile/"
    assert User.objects.count() == 1
    assert "hannah@example.org" in client.get("/profile/").content.decode()


def test_a_checked_address_leads_to_the_account_that_has_it(provider: OpenIdProvider) -> None:
    person = UserFactory(email="hannah@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    client = browser()
    assert go_through(client).status_code == 302
    assert is_in(client)
    assert SocialAccount.objects.get().user == person
    person.refresh_from_db()
    assert person.check_password("correct horse")
    assert User.objects.count() == 1


@pytest.mark.parametrize("verified", [False, None, "false"])
def test_an_address_that_nobody_checked_leads_to_no_account(provider: OpenIdProvider, verified: Any) -> None:
    person = UserFactory(email="hannah@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    provider.claims["email_verified"] = verified
    client = browser()
    go_through(client)
    assert not is_in(client)
    assert SocialAccount.objects.count() == 0


def test_whoever_took_an_address_without_confirming_it_is_locked_out_of_it(provider: OpenIdProvider) -> None:
    squatter = UserFactory(email="hannah@example.org")
    EmailAddress.objects.create(user=squatter, email=squatter.email, verified=False, primary=True)
    theirs = entered(squatter)
    go_through(browser())
    squatter.refresh_from_db()
    assert not squatter.has_usable_password()
    assert not is_in(theirs)


def test_a_second_factor_is_asked_for_here_too(provider: OpenIdProvider) -> None:
    person = UserFactory(email="hannah@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    secret = with_app(entered(person))
    client = browser()
    assert go_through(client)["Location"] == "/account/2fa/authenticate/"
    assert not is_in(client)
    client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    assert is_in(client)


def test_an_invited_person_joins_the_team_that_invited_them(
    provider: OpenIdProvider, scenario: Scenario
) -> None:
    invitation = invite(actor=scenario.alice, email="hannah@example.org", role=Role.EDITOR)
    client = browser()
    client.get(urlsplit(link_of(invitation)).path)
    go_through(client)
    memberships = Membership.objects.filter(user__email="hannah@example.org")
    assert [(m.team, m.role) for m in memberships] == [(scenario.team, "editor")]


def test_a_login_is_connected_and_disconnected_on_the_profile(provider: OpenIdProvider) -> None:
    person = UserFactory(email="other@example.org")
    client = entered(person)
    assert "/account/3rdparty/" in client.get("/profile/").content.decode()
    assert go_through(client, "connect")["Location"] == "/account/3rdparty/"
    account = SocialAccount.objects.get()
    assert account.user == person
    assert "Studio login" in client.get("/account/3rdparty/").content.decode()
    assert client.post("/account/3rdparty/", {"account": account.pk}).status_code == 302
    assert SocialAccount.objects.count() == 0
    assert [sent.to for sent in mail.outbox] == [[person.email]] * 2


def test_the_last_way_in_cannot_be_disconnected(provider: OpenIdProvider) -> None:
    client = browser()
    go_through(client)
    page = client.post("/account/3rdparty/", {"account": SocialAccount.objects.get().pk})
    assert page.status_code == 200
    assert 'role="alert"' in page.content.decode()
    assert SocialAccount.objects.count() == 1


def test_an_answer_that_nobody_asked_for_opens_nothing(provider: OpenIdProvider) -> None:
    client = browser()
    assert client.get(f"{START}callback/?code=x&state=y").status_code == 401
    onward = client.post(f"{START}?process=login")
    state = parse_qs(urlsplit(address_on(onward)).query)["state"][0]
    assert client.get(f"{START}callback/?code=invented&state={state}").status_code == 401
    assert client.get(f"{START}callback/?error=access_denied&state={state}").status_code in {302, 401}
    assert User.objects.count() == 0


def test_a_provider_that_is_away_is_told_on_a_page_of_ours(provider: OpenIdProvider) -> None:
    client = browser()
    provider.server.shutdown()
    provider.server.server_close()
    answer = client.post(f"{START}?process=login")
    assert answer.status_code == 502
    assert "did not let you in" in answer.content.decode()
