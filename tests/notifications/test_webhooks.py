"""Webhooks arrive signed, once, with what happened; they are tried again, and given up, as the standard says."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone

from accounts.roles import Role
from core.models import OutboxMessage
from notifications.events import EventType, Subject
from notifications.models import (
    Delivery,
    DeliveryState,
    DisabledWhy,
    WebhookEndpoint,
    WebhookEvent,
)
from notifications.services import webhooks
from notifications.services.deliveries import SCHEDULE
from notifications.tasks import mail_notification
from tests.factories import make_member
from tests.notifications.receivers import Received, Receiver, Reply, receiving, verifies
from tests.notifications.sending import Sender
from tests.scenario import Scenario

SECOND = timedelta(seconds=1)


def test_a_message_arrives_once_signed_and_thin(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    sender.emit()
    assert sender.work() == 1
    assert sender.work() == 0
    (request,) = receiver.requests
    assert receiver.unsigned == []
    assert request.path == "/hooks?x=1"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["webhook-id"] == sender.delivery.event.uid
    body = json.loads(request.body)
    assert (body["type"], set(body)) == ("training.succeeded", {"type", "timestamp", "data"})
    assert body["data"] == {
        "id": "trn_1",
        "object": "training",
        "name": "Kael",
        "team": sender.actor.team.uid,
        "url": "http://127.0.0.1:8000/t/atelier/trainings/trn_1/",
    }
    assert sender.delivery.state == DeliveryState.DELIVERED
    (attempt,) = sender.attempts
    assert (attempt.status_code, attempt.answer, attempt.error) == (200, "ok", "")


def test_a_changed_body_or_another_secret_does_not_verify(sender: Sender, receiver: Receiver) -> None:
    made = sender.endpoint(receiver)
    sender.emit()
    sender.work()
    (request,) = receiver.requests
    assert verifies(request, made.text)
    assert not verifies(Received(request.path, request.headers, request.body + b" "), made.text)
    assert not verifies(request, webhooks.new_secret())


def test_an_endpoint_gets_only_what_it_asked_for(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver, event_types=["training.failed"])
    sender.emit(EventType.TRAINING_SUCCEEDED)
    sender.emit(EventType.TRAINING_FAILED)
    sender.work()
    assert [json.loads(r.body)["type"] for r in receiver.requests] == ["training.failed"]


def test_another_team_hears_nothing(sender: Sender, receiver: Receiver, scenario: Scenario) -> None:
    sender.endpoint(receiver)
    Sender(scenario.charlie).emit()
    assert sender.work() == 0
    assert WebhookEvent.objects.for_team(scenario.charlie.team).count() == 0


def test_a_change_that_is_rolled_back_is_not_told(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    with transaction.atomic():
        sender.emit()
        transaction.set_rollback(True)
    assert sender.work() == 0
    assert WebhookEvent.objects.for_team(sender.actor.team).count() == 0


def test_a_body_is_cut_to_the_id_before_it_grows_too_large(sender: Sender) -> None:
    subject = Subject("trn_1", "training", "Kael", "/x/", {"words": "語" * 10_000})
    text = webhooks.body_of(sender.actor.team, EventType.TRAINING_FAILED, subject)
    assert len(text.encode()) < 20_000
    assert json.loads(text)["data"]["id"] == "trn_1"


# -- Failure --------------------------------------------------------------------------------------------------


def test_the_schedule_is_that_of_the_standard_with_jitter(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(503)) as receiver:
        made = sender.endpoint(receiver)
        sender.emit()
        waits = []
        for _try in SCHEDULE:
            sender.work()
            # The three days must not be over before the schedule is.
            WebhookEndpoint.objects.for_team(sender.actor.team).update(failing_since=timezone.now())
            waits.append(sender.wait_for_next())
        sender.work()
        assert [round(span.total_seconds()) for span in SCHEDULE] == [
            5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400,
        ]  # fmt: skip
        for wait, planned in zip(waits, SCHEDULE, strict=True):
            assert planned - SECOND <= wait <= planned * 1.1
        assert len({wait / planned for wait, planned in zip(waits, SCHEDULE, strict=True)}) > 5
    assert sender.delivery.state == DeliveryState.FAILED
    assert [attempt.status_code for attempt in sender.attempts] == [503] * 10
    assert len({r.headers["webhook-id"] for r in receiver.requests}) == 1
    assert len({r.body for r in receiver.requests}) == 1
    assert all(verifies(r, made.text) for r in receiver.requests)


def test_a_receiver_that_comes_back_gets_the_message(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(500 if number < 3 else 204, body=b"")) as receiver:
        sender.endpoint(receiver)
        sender.emit()
        while sender.delivery.state == DeliveryState.PENDING:
            sender.work()
            if sender.delivery.next_try_at:
                sender.wait_for_next()
    assert sender.delivery.state == DeliveryState.DELIVERED
    assert [attempt.status_code for attempt in sender.attempts] == [500, 500, 204]
    endpoint = sender.delivery.endpoint
    assert (endpoint.failures, endpoint.failing_since, endpoint.resume_at) == (0, None, None)


def test_nobody_at_the_port_is_a_failure_with_words(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    receiver.close()
    sender.emit()
    sender.work()
    (attempt,) = sender.attempts
    assert attempt.status_code is None
    assert "refused" in attempt.error
    assert sender.delivery.state == DeliveryState.PENDING


def test_a_redirect_is_not_followed_and_the_log_says_so(sender: Sender, receiver: Receiver) -> None:
    moved = Reply(307, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}, b"")
    with receiving(decide=lambda request, number: moved) as first:
        sender.endpoint(first)
        sender.emit()
        sender.work()
    assert receiver.requests == []
    assert sender.delivery.status_code == 307
    assert sender.delivery.error == (
        f"Redirects are not followed. Enter the final address: http://127.0.0.1:{receiver.port}/elsewhere"
    )
    assert sender.delivery.state == DeliveryState.PENDING


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_and_stops_the_whole_endpoint(sender: Sender, form: str) -> None:
    later = timezone.now() + timedelta(minutes=20)
    wish = "1200" if form == "seconds" else format_datetime(later, usegmt=True)
    with receiving(decide=lambda request, number: Reply(429, {"Retry-After": wish})) as receiver:
        sender.endpoint(receiver)
        sender.emit()
        sender.work()
        wait = sender.delivery.next_try_at - timezone.now()  # type: ignore[operator]
        assert timedelta(minutes=19, seconds=50) < wait <= timedelta(minutes=20)
        sender.emit(name="Another")
        sender.work()
        assert len(receiver.requests) == 1
        sender.pass_time(timedelta(minutes=10))
        assert sender.work() == 0


def test_a_wish_for_next_year_is_cut_to_a_day(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(503, {"Retry-After": "99999999"})) as receiver:
        sender.endpoint(receiver)
        sender.emit()
        sender.work()
    assert sender.delivery.next_try_at <= timezone.now() + timedelta(hours=24)  # type: ignore[operator]


def test_gone_switches_the_webhook_off_and_tells_the_managers(sender: Sender, scenario: Scenario) -> None:
    admin = make_member(scenario.team, Role.ADMIN, email="admin@example.org")
    make_member(scenario.team, Role.EDITOR, email="editor@example.org")
    with receiving(decide=lambda request, number: Reply(410)) as receiver:
        sender.endpoint(receiver)
        sender.emit()
        sender.work()
    endpoint = sender.delivery.endpoint
    assert (endpoint.enabled, endpoint.disabled_why) == (False, DisabledWhy.GONE)
    assert sender.delivery.state == DeliveryState.FAILED
    for row in OutboxMessage.objects.filter(actor="mail_notification", done_at=None):
        mail_notification(row.pk, row.subject_uid)
    assert sorted(message.to[0] for message in mail.outbox) == sorted(
        [scenario.alice.user.email, admin.user.email]
    )
    assert mail.outbox[0].subject == "The webhook to 127.0.0.1 was switched off"
    assert f"/t/atelier/settings/webhooks/{endpoint.uid}/" in str(mail.outbox[0].body)
    sender.emit()
    assert sender.work() == 0


def test_three_days_of_failures_switch_it_off_with_one_mail_each(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(500)) as receiver:
        sender.endpoint(receiver)
        sender.emit()
        for _hours in range(4):
            sender.work()
            sender.pass_time(timedelta(hours=23))
            assert sender.delivery.endpoint.enabled
        sender.work()
        assert not sender.delivery.endpoint.enabled
        assert sender.delivery.endpoint.disabled_why == DisabledWhy.FAILING
        assert OutboxMessage.objects.filter(actor="mail_notification").count() == 1
        sent = len(receiver.requests)
        sender.pass_time(timedelta(days=2))
        sender.work()
        assert len(receiver.requests) == sent
    assert sender.delivery.error == "The webhook was switched off."


def test_one_success_in_between_starts_the_three_days_anew(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(200 if number == 3 else 500)) as receiver:
        sender.endpoint(receiver)
        for _day in range(4):
            sender.emit()
            sender.work()
            sender.pass_time(timedelta(hours=25))
        assert len(receiver.requests) > 4
    endpoint = sender.delivery.endpoint
    assert endpoint.enabled
    assert endpoint.failing_since > timezone.now() - timedelta(days=3)


def test_a_failing_receiver_is_asked_by_one_message_at_a_time(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(500)) as receiver:
        sender.endpoint(receiver)
        for number in range(40):
            sender.emit(name=f"No. {number}")
        sender.work()
        assert len(receiver.requests) == 3  # then the breaker opens
        sender.pass_time(timedelta(seconds=6))
        sender.work()
        assert len(receiver.requests) == 4
        receiver.decide = lambda request, number: Reply()
        for _tick in range(3):
            sender.pass_time(timedelta(minutes=6))
            sender.work()
        assert len(receiver.by_id) == 40
    assert not Delivery.objects.for_team(sender.actor.team).exclude(state=DeliveryState.DELIVERED).exists()


def test_a_killed_worker_sends_again_under_the_same_id(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    sender.emit()
    (row,) = OutboxMessage.objects.filter(actor="deliver_webhook")
    # It was taken, and whoever took it is gone.
    OutboxMessage.objects.filter(pk=row.pk).update(taken_until=timezone.now() - SECOND)
    sender.work()
    assert len(receiver.by_id) == 1
