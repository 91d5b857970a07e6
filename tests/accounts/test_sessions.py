"""Where somebody is logged in: the list, ending one session or all others, and the sockets that end with them."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import redis
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import mail
from django.utils import timezone

from accounts.models import User
from accounts.sessions import device
from core.realtime.access import ACCESS_KEY
from tests.accounts.doors import FIREFOX, IPHONE, browser, entered, is_in, log_in
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
LIST = "/account/sessions/"


@pytest.fixture
def person() -> User:
    return UserFactory()


def told() -> int:
    """Return how often open sockets were asked to check their rights again."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        newest = client.xrevrange(ACCESS_KEY, count=1)
        return int(newest[0][0].split(b"-")[0]) * 1000 + int(newest[0][0].split(b"-")[1]) if newest else 0


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Safari on iPhone"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Edg/126.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        ("curl/8.5.0", "curl"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_named_as_people_name_it(agent: str, words: str) -> None:
    assert device(agent) == words


def test_the_list_shows_device_and_address_and_which_one_is_here(person: User) -> None:
    here, _telephone = browser(), log_in(browser(IPHONE, REMOTE_ADDR="203.0.113.7"), person)
    log_in(here, person)
    page = here.get(LIST).content.decode()
    assert "Firefox on Linux" in page
    assert "Safari on iPhone" in page
    assert "203.0.113.7" in page
    assert page.count("This device") == 1
    assert page.count("/end/") == 1


def test_one_session_is_ended_and_its_sockets_hear_of_it(
    person: User, django_capture_on_commit_callbacks: object
) -> None:
    here, telephone = browser(), browser(IPHONE)
    log_in(here, person)
    log_in(telephone, person)
    row = UserSession.objects.get(user_agent=IPHONE)
    before = told()
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        assert here.post(f"/profile/sessions/{row.pk}/end/").status_code == 303
    assert told() > before
    assert not Session.objects.filter(session_key=row.session_key).exists()
    assert (is_in(here), is_in(telephone)) == (True, False)


def test_nobody_ends_the_session_of_another(person: User) -> None:
    here, theirs = browser(), browser()
    log_in(here, person)
    other = UserFactory()
    log_in(theirs, other)
    row = UserSession.objects.get(user=other)
    assert here.post(f"/profile/sessions/{row.pk}/end/").status_code == 404
    assert here.post("/profile/sessions/0/end/").status_code == 404
    assert is_in(theirs)


def test_all_others_are_ended_at_once(person: User) -> None:
    browsers = [browser() for _n in range(3)]
    for each in browsers:
        log_in(each, person)
    assert browsers[0].post(LIST).status_code == 302
    assert [is_in(each) for each in browsers] == [True, False, False]
    assert UserSession.objects.filter(user=person).count() == 1


def test_a_new_password_ends_the_sessions_everywhere_else(person: User) -> None:
    here, telephone = entered(person), browser(IPHONE)
    log_in(telephone, person)
    key = telephone.session.session_key
    new = "another quiet evening"
    words = {"oldpassword": "correct horse", "password1": new, "password2": new}
    assert here.post("/account/password/change/", words).status_code == 302
    # The row is gone too: sockets look for it.
    assert not Session.objects.filter(session_key=key).exists()
    assert (is_in(here), is_in(telephone)) == (True, False)


def test_last_seen_follows_the_person_and_is_written_once_a_minute(person: User) -> None:
    client = browser()
    log_in(client, person)
    long_ago = timezone.now() - timedelta(hours=3)
    UserSession.objects.filter(user=person).update(last_seen_at=long_ago)
    client.get("/profile/")
    assert UserSession.objects.get(user=person).last_seen_at > timezone.now() - timedelta(minutes=1)
    UserSession.objects.filter(user=person).update(last_seen_at=long_ago)
    client.get("/profile/")
    assert UserSession.objects.get(user=person).last_seen_at == long_ago


def test_times_are_told_in_the_persons_zone(person: User) -> None:
    client = browser()
    log_in(client, person)
    seen = timezone.now().replace(hour=22, minute=30) - timedelta(days=40)
    UserSession.objects.filter(user=person).update(created_at=seen)
    utc = client.get(LIST).content.decode()
    User.objects.filter(pk=person.pk).update(time_zone="Asia/Shanghai")
    shanghai = client.get(LIST).content.decode()
    assert "22:30" in utc or "10:30 p.m." in utc
    assert "06:30" in shanghai or "6:30 a.m." in shanghai


def test_mail_tells_times_in_the_readers_zone(person: User) -> None:
    User.objects.filter(pk=person.pk).update(time_zone="Pacific/Kiritimati")
    client = entered(person)
    new = "another quiet evening"
    words = {"oldpassword": "correct horse", "password1": new, "password2": new}
    client.post("/account/password/change/", words)
    there = timezone.now().astimezone(ZoneInfo("Pacific/Kiritimati"))
    assert "(+14)" in mail.outbox[-1].body
    assert there.strftime("%Y") in mail.outbox[-1].body
