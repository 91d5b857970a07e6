"""Language and theme: for this browser, and for the person."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import User
from tests.scenario import Scenario


@pytest.mark.django_db
def test_a_visitor_switches_the_language_with_a_cookie(client: Client) -> None:
    answer = client.post("/language/", {"language": "zh-hans", "next": "/account/login/?next=/profile/"})
    assert (answer.status_code, answer["Location"]) == (303, "/account/login/?next=/profile/")
    page = client.get("/account/login/")
    assert '<html lang="zh-hans"' in page.content.decode()


def test_a_person_keeps_the_language_they_switched_to(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    client.post("/language/", {"language": "zh-hans", "next": "/profile/"})
    scenario.bob.user.refresh_from_db()
    scenario.alice.user.refresh_from_db()
    assert (scenario.bob.user.language, scenario.alice.user.language) == ("zh-hans", "en")


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", ""])
def test_a_switch_never_leads_to_another_site(client: Client, address: str) -> None:
    for switch, choice in (("/language/", {"language": "en"}), ("/theme/", {"theme": "dark"})):
        assert client.post(switch, {**choice, "next": address})["Location"] == "/"


@pytest.mark.django_db
def test_an_unknown_language_or_theme_changes_nothing(client: Client) -> None:
    assert "django_language" not in client.post("/language/", {"language": "xx"}).cookies
    assert "theme" not in client.post("/theme/", {"theme": '"><script>'}).cookies


@pytest.mark.django_db
def test_the_chosen_theme_is_in_the_page_before_any_script_runs(client: Client) -> None:
    assert "data-theme" not in client.get("/account/login/").content.decode().split("<head>")[0]
    client.post("/theme/", {"theme": "dark", "next": "/"})
    assert 'data-theme="dark"' in client.get("/account/login/").content.decode().split("<head>")[0]


def test_the_profile_changes_name_and_language(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    answer = client.post("/profile/", {"name": "Robert", "language": "zh-hans", "time_zone": "UTC"})
    assert (answer.status_code, answer["Location"]) == (303, "/profile/")
    assert answer.cookies["django_language"].value == "zh-hans"
    scenario.bob.user.refresh_from_db()
    assert (scenario.bob.user.name, scenario.bob.user.language) == ("Robert", "zh-hans")


def test_a_profile_without_a_name_is_refused(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    assert client.post("/profile/", {"name": "", "language": "en"}).status_code == 422
    scenario.bob.user.refresh_from_db()
    assert scenario.bob.user.name == "Bob"


def test_the_profile_keeps_the_time_zone(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.bob.user)
    page = client.get("/profile/").content.decode()
    assert '<optgroup label="Asia">' in page
    assert '<option value="Asia/Shanghai">Shanghai (UTC+08:00)</option>' in page
    client.post("/profile/", {"name": "Bob", "language": "en", "time_zone": "Asia/Shanghai"})
    scenario.bob.user.refresh_from_db()
    assert scenario.bob.user.time_zone == "Asia/Shanghai"
    refused = client.post("/profile/", {"name": "Bob", "language": "en", "time_zone": "Mars/Olympus"})
    assert refused.status_code == 422


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sent", "kept"), [("Europe/Berlin", "Europe/Berlin"), ("../etc", "UTC"), ("", "UTC")]
)
def test_sign_up_takes_the_time_zone_of_the_browser(client: Client, sent: str, kept: str) -> None:
    form = {"name": "N", "email": "n@example.org", "password1": "a long and quiet evening", "time_zone": sent}
    client.post("/account/signup/", form)
    assert User.objects.get().time_zone == kept


def test_a_zone_that_this_machine_does_not_know_breaks_no_page(scenario: Scenario, client: Client) -> None:
    User.objects.filter(pk=scenario.bob.user.pk).update(time_zone="Mars/Olympus")
    client.force_login(scenario.bob.user)
    assert client.get("/profile/").status_code == 200
