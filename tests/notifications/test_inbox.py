"""People are told what concerns them, once, in their language, and by mail the way they chose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from django.utils import timezone, translation

from accounts.actor import Actor
from accounts.models import Membership, User
from accounts.roles import Role
from core.models import OutboxMessage
from core.realtime import topics
from notifications import duties, realtime, tasks
from notifications.events import Subject
from notifications.kinds import Kind, MailWhen
from notifications.models import Inbox, Notification
from notifications.selectors import bell_of, notifications_of
from notifications.services.inbox import choose
from notifications.services.notify import tell
from tests.factories import make_member
from tests.scenario import Scenario

ACTORS = {"mail_notification": tasks.mail_notification, "mail_digest": tasks.mail_digest}


def tell_about(actor: Actor, name: str, *people: User, kind: Kind = Kind.MEMBER_JOINED) -> None:
    tell(team=actor.team, kind=kind, people=people, subject=Subject("usr_1", "member", name, "/t/atelier/x/"))


def deliver() -> list[EmailMultiAlternatives]:
    """Do the waiting work of the mail queue; return everything that was sent so far."""
    for row in OutboxMessage.objects.filter(done_at=None, actor__in=ACTORS).order_by("pk"):
        ACTORS[row.actor](row.pk, row.subject_uid)
    return [sent for sent in mail.outbox if isinstance(sent, EmailMultiAlternatives)]


def morning(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> int:
    monkeypatch.setattr(duties.timezone, "now", lambda: moment)
    return int(duties.begin_digests())  # type: ignore[call-overload]


def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


# -- The list -------------------------------------------------------------------------------------------------


def test_numbers_are_dense_for_each_person(scenario: Scenario) -> None:
    alice, bob = scenario.alice.user, scenario.bob.user
    for number in range(3):
        tell_about(scenario.alice, f"No. {number}", alice, bob)
    tell_about(scenario.alice, "No. 3", alice)
    for person, last in ((alice, 4), (bob, 3)):
        assert list(notifications_of(person).values_list("seq", flat=True)) == list(range(last, 0, -1))
        assert Inbox.objects.get(user=person).last_seq == last
        assert bell_of(person) == (last, last)


def test_strangers_and_people_who_were_switched_off_are_not_told(scenario: Scenario) -> None:
    gone = make_member(scenario.team, Role.ADMIN, is_active=False)
    tell_about(scenario.alice, "X", scenario.charlie.user, gone.user)
    assert not Notification.objects.exists()


def test_who_leaves_a_team_sees_nothing_of_it_any_more(scenario: Scenario) -> None:
    bob = scenario.bob.user
    tell_about(scenario.alice, "Secret", bob)
    Membership.objects.filter(user=bob).delete()
    assert list(notifications_of(bob)) == []
    assert bell_of(bob) == (0, 1)
    (item,) = realtime.events_after(bob.uid, 0, 10)
    assert (item["seq"], item["type"], item["data"]) == (1, "gone", {})
    assert "Secret" not in browser(bob).get("/notifications/bell/").content.decode()


def test_the_live_topic_is_open_to_its_person_alone(scenario: Scenario) -> None:
    found = topics.find(f"inbox:{scenario.bob.user.uid}")
    assert found is not None
    kind, uid = found
    assert kind.may_read(scenario.bob.user, uid)
    assert not kind.may_read(scenario.alice.user, uid)


def test_live_items_speak_the_language_of_their_person(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    bob = scenario.bob.user
    User.objects.filter(pk=bob.pk).update(language="zh-hans")
    said: list[tuple[str, list[dict[str, Any]]]] = []
    monkeypatch.setattr(
        "notifications.services.notify.publish", lambda topic, items: said.append((topic, items))
    )
    with django_capture_on_commit_callbacks(execute=True):
        tell_about(scenario.alice, "Kael", bob, kind=Kind.TRAINING_DONE)
    ((topic, (item,)),) = said
    assert topic == f"inbox:{bob.uid}"
    with translation.override("zh-hans"):
        assert item["data"]["title"] == Notification.objects.get().title
    assert (item["seq"], item["data"]["state"]) == (1, "succeeded")
    assert realtime.events_after(bob.uid, 0, 10) == [item]
    assert dict(realtime.heads([bob.uid])) == {bob.uid: 1}


def test_the_bell_counts_and_opening_a_line_reads_it(scenario: Scenario) -> None:
    alice = scenario.alice.user
    tell_about(scenario.alice, "Dora", alice)
    tell_about(scenario.alice, "Emil", alice)
    client = browser(alice)
    page = client.get("/t/atelier/settings/").content.decode()
    assert f'data-topic="inbox:{alice.uid}" data-after="2"' in page
    assert '<span class="bell-count" aria-hidden="true">2</span>' in page
    row = Notification.objects.get(subject_name="Dora")
    answer = client.get(f"/notifications/{row.uid}/")
    assert (answer.status_code, answer["Location"]) == (303, "/t/atelier/x/")
    bell = client.get("/notifications/bell/").content.decode()
    assert '<span class="bell-count" aria-hidden="true">1</span>' in bell
    assert "Emil joined" in bell
    assert client.post("/notifications/read/").status_code == 303
    assert 'class="bell-count"' not in client.get("/notifications/bell/").content.decode()


def test_lines_of_others_are_not_there(scenario: Scenario) -> None:
    tell_about(scenario.alice, "Dora", scenario.alice.user)
    row = Notification.objects.get()
    client = browser(scenario.bob.user)
    assert client.get(f"/notifications/{row.uid}/").status_code == 404
    client.post("/notifications/read/")
    row.refresh_from_db()
    assert row.read_at is None
    assert "Dora" not in client.get("/notifications/").content.decode()


def test_the_page_costs_the_same_for_2_and_for_25_lines(
    scenario: Scenario, django_assert_max_num_queries: Any
) -> None:
    alice = scenario.alice.user
    client = browser(alice)
    for _line in range(2):
        tell_about(scenario.alice, "Dora", alice)
    client.get("/notifications/")
    with django_assert_max_num_queries(20) as few:
        client.get("/notifications/")
    for _line in range(23):
        tell_about(scenario.alice, "Dora", alice)
    with django_assert_max_num_queries(len(few)):
        client.get("/notifications/")


# -- Mail -----------------------------------------------------------------------------------------------------


def test_at_once_means_one_mail_for_each(scenario: Scenario) -> None:
    alice = scenario.alice.user
    choose(person=alice, choices={Kind.MEMBER_JOINED: MailWhen.AT_ONCE})
    tell_about(scenario.alice, "Dora", alice)
    (sent,) = deliver()
    assert (sent.to, sent.subject) == ([alice.email], f"Dora joined {scenario.team.name}")
    assert "http://127.0.0.1:8000/t/atelier/x/" in str(sent.body)
    assert "http://127.0.0.1:8000/notifications/preferences/" in str(sent.body)
    assert len(deliver()) == 1


def test_never_means_no_mail_and_a_line_all_the_same(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = scenario.alice.user
    choose(person=alice, choices={Kind.MEMBER_JOINED: MailWhen.NEVER})
    tell_about(scenario.alice, "Dora", alice)
    morning(monkeypatch, timezone.now() + timedelta(days=2))
    assert deliver() == []
    assert bell_of(alice) == (1, 1)


def test_the_daily_mail_comes_once_at_eight_where_the_person_lives(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = scenario.alice.user
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Shanghai")
    tell_about(scenario.alice, "Dora", alice)
    tell_about(scenario.alice, "Emil", alice)
    assert morning(monkeypatch, datetime(2030, 5, 1, 23, 50, tzinfo=UTC)) == 0  # 07:50 there
    assert morning(monkeypatch, datetime(2030, 5, 2, 0, 0, tzinfo=UTC)) == 1
    assert morning(monkeypatch, datetime(2030, 5, 2, 0, 10, tzinfo=UTC)) == 0
    (sent,) = deliver()
    assert sent.subject == "2 things happened"
    assert "Dora joined" in str(sent.body)
    assert "Emil joined" in str(sent.body)
    # Nothing new, no mail; and what was read in the meantime is not told.
    assert morning(monkeypatch, datetime(2030, 5, 3, 0, 0, tzinfo=UTC)) == 0
    tell_about(scenario.alice, "Fritz", alice)
    Notification.objects.update(read_at=timezone.now())
    assert morning(monkeypatch, datetime(2030, 5, 3, 0, 10, tzinfo=UTC)) == 0
    assert len(deliver()) == 1


def test_a_mail_about_a_team_that_was_left_is_not_sent(scenario: Scenario) -> None:
    bob = scenario.bob.user
    choose(person=bob, choices={Kind.MEMBER_JOINED: MailWhen.AT_ONCE})
    tell_about(scenario.alice, "Dora", bob)
    Membership.objects.filter(user=bob).delete()
    assert deliver() == []


def test_choices_are_kept_for_each_person_and_kind(scenario: Scenario) -> None:
    client = browser(scenario.alice.user)
    page = client.get("/notifications/preferences/").content.decode()
    for kind in Kind:
        assert f'name="{kind.value}"' in page
    wanted = {kind.value: "never" for kind in Kind}
    assert client.post("/notifications/preferences/", wanted).status_code == 303
    assert (
        client.post("/notifications/preferences/", {**wanted, "member.joined": "hourly"}).status_code == 422
    )
    page = client.get("/notifications/preferences/").content.decode()
    assert page.count('<option value="never" selected>') == len(Kind)
    assert scenario.alice.user.notification_choices.count() == len(Kind)
    assert scenario.bob.user.notification_choices.count() == 0
