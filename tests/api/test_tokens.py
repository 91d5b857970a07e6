"""A person's tokens: short, renewed once, and worth what the person is allowed at this moment."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import AuditEvent, Membership, Team
from accounts.roles import ROLE_CAN, Role
from accounts.services.tokens import forget_expired_tokens
from tests.api.clients import API, bearer, log_in
from tests.factories import UserFactory
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_earlier_tries() -> None:
    cache.clear()


def refresh(text: str) -> object:
    return APIClient().post(f"{API}/auth/refresh", {"refresh_token": text}, format="json")


def test_a_person_logs_in_and_acts_with_their_role(scenario: Scenario) -> None:
    answer = log_in(scenario.bob)
    assert answer.status_code == 200, answer.json()
    tokens = answer.json()
    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (600, 14 * 86400)
    me = bearer(tokens["access_token"]).get(f"{API}/me").json()
    assert (me["user"]["email"], me["role"], me["api_key"]) == ("bob@example.org", "viewer", None)
    assert set(me["scopes"]) == {can.value for can in ROLE_CAN[Role.VIEWER]}
    refused = bearer(tokens["access_token"]).post(f"{API}/projects", {"name": "Mine"}, format="json")
    assert refused.status_code == 403
    assert AuditEvent.objects.for_team(scenario.team).filter(verb="token.issued").count() == 1


def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(scenario: Scenario) -> None:
    answers = [log_in(scenario.bob, password="wrong"), log_in(scenario.bob, email="nobody@example.org")]
    UserFactory(email="gone@example.org", is_active=False)
    answers.append(log_in(scenario.bob, email="gone@example.org"))
    bodies = [{**answer.json(), "request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [401] * 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["code"] == "credentials_wrong"
    assert not OutstandingToken.objects.exists()


def test_tries_are_counted_by_account(scenario: Scenario) -> None:
    answers = [log_in(scenario.bob, password=f"wrong {n}") for n in range(7)]
    assert [answer.status_code for answer in answers][-1] == 429
    last = answers[-1]
    assert (last.json()["code"], last.json()["retryable"], last["Retry-After"]) == (
        "rate_limited",
        True,
        "60",
    )
    assert log_in(scenario.bob).status_code == 429, "the right password gets nobody past the limit"


def test_the_team_must_be_ones_own(scenario: Scenario) -> None:
    for team in ("elsewhere", scenario.charlie.team.uid, "nowhere", "team_00000000000000000000000000"):
        assert log_in(scenario.bob, team=team).status_code == 404
    assert log_in(scenario.bob, team=scenario.team.uid).status_code == 200


def test_a_second_factor_is_asked_for_and_its_code_works_once(scenario: Scenario) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    TOTP.activate(scenario.bob.user, secret)
    code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
    asked = log_in(scenario.bob)
    assert (asked.status_code, asked.json()["code"]) == (401, "code_missing")
    wrong = log_in(scenario.bob, code="000000" if code != "000000" else "111111")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "code_wrong")
    assert log_in(scenario.bob, password="wrong", code=code).json()["code"] == "credentials_wrong"
    assert log_in(scenario.bob, code=code).status_code == 200
    assert log_in(scenario.bob, code=code).json()["code"] == "code_wrong"


def test_a_security_key_alone_needs_a_browser(scenario: Scenario) -> None:
    Authenticator.objects.create(user=scenario.bob.user, type=Authenticator.Type.WEBAUTHN, data={})
    answer = log_in(scenario.bob)
    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_needs_browser")


def test_a_refresh_token_is_good_for_one_use_and_a_second_ends_the_login(scenario: Scenario) -> None:
    first = log_in(scenario.bob).json()
    second = refresh(first["refresh_token"])
    assert second.status_code == 200
    new = second.json()
    assert bearer(new["access_token"]).get(f"{API}/me").status_code == 200
    # At the same moment it is a repeat, and nobody is logged out.
    assert refresh(first["refresh_token"]).status_code == 401
    assert bearer(new["access_token"]).get(f"{API}/me").status_code == 200
    BlacklistedToken.objects.update(blacklisted_at=timezone.now() - timedelta(minutes=1))
    assert refresh(first["refresh_token"]).json()["code"] == "token_invalid"
    for access in (first["access_token"], new["access_token"]):
        assert bearer(access).get(f"{API}/me").status_code == 401
    assert refresh(new["refresh_token"]).status_code == 401
    assert AuditEvent.objects.for_team(scenario.team).filter(verb="token.reused").count() == 1


def test_revoking_ends_every_token_of_the_login_at_once(scenario: Scenario) -> None:
    tokens, other = log_in(scenario.bob).json(), log_in(scenario.bob).json()
    answer = APIClient().post(f"{API}/auth/revoke", {"refresh_token": tokens["refresh_token"]}, format="json")
    assert answer.status_code == 204
    assert bearer(tokens["access_token"]).get(f"{API}/me").status_code == 401
    assert refresh(tokens["refresh_token"]).status_code == 401
    assert bearer(other["access_token"]).get(f"{API}/me").status_code == 200
    nothing = APIClient().post(f"{API}/auth/revoke", {"refresh_token": "a.b.c"}, format="json")
    assert nothing.status_code == 204


@pytest.mark.parametrize("change", ["role", "removed", "inactive", "password", "deleted"])
def test_what_changes_about_a_person_holds_at_once(scenario: Scenario, change: str) -> None:
    tokens = log_in(scenario.bob).json()
    member = Membership.objects.filter(team=scenario.team, user=scenario.bob.user)
    user = scenario.bob.user
    if change == "role":
        member.update(role=Role.EDITOR)
        made = bearer(tokens["access_token"]).post(f"{API}/projects", {"name": "Mine"}, format="json")
        assert made.status_code == 201
        return
    if change == "removed":
        member.delete()
    elif change == "inactive":
        user.is_active = False
        user.save(update_fields=["is_active"])
    elif change == "password":
        user.set_password("another one")
        user.save(update_fields=["password"])
    else:
        Team.objects.filter(pk=scenario.team.pk).update(deleted_at=timezone.now())
    assert bearer(tokens["access_token"]).get(f"{API}/me").status_code == 401
    assert refresh(tokens["refresh_token"]).status_code == 401


def test_a_team_that_asks_for_a_second_factor_holds_back_tokens_without(scenario: Scenario) -> None:
    tokens = log_in(scenario.bob).json()
    Team.objects.filter(pk=scenario.team.pk).update(require_two_factor=True)
    answer = bearer(tokens["access_token"]).get(f"{API}/me")
    assert (answer.status_code, answer.json()["code"]) == (403, "two_factor_required")
    assert log_in(scenario.bob).json()["code"] == "two_factor_required"


def test_tokens_that_are_not_ours_open_nothing(scenario: Scenario) -> None:
    tokens = log_in(scenario.bob).json()
    head, body, signature = tokens["access_token"].split(".")
    forged = AccessToken()
    forged["sub"], forged["team"] = scenario.alice.user.uid, scenario.team.uid
    for text in (
        f"{head}.{body}.",
        f"{head}.{body}.{signature[::-1]}",
        "a.b.c",
        str(forged),
        tokens["refresh_token"],
    ):
        assert bearer(text).get(f"{API}/me").status_code == 401, text
    assert refresh(tokens["access_token"]).status_code == 401


def test_an_expired_token_opens_nothing_and_its_row_goes(scenario: Scenario, settings: object) -> None:
    tokens = log_in(scenario.bob).json()
    access = AccessToken(tokens["access_token"])
    access.set_exp(lifetime=-timedelta(seconds=1))
    assert bearer(str(access)).get(f"{API}/me").status_code == 401
    OutstandingToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert forget_expired_tokens() == 2


def test_no_token_is_kept_as_text(scenario: Scenario) -> None:
    log_in(scenario.bob)
    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}
