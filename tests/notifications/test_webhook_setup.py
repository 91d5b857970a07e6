"""Secrets that rotate, messages that are sent again, chats, and what a team may set up."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from core.errors import Conflict, DomainError, PermissionDenied, QuotaExceeded
from core.models import OutboxMessage
from notifications.duties import forget_old, send_due_webhooks
from notifications.models import (
    Delivery,
    DeliveryState,
    EndpointKind,
    WebhookEndpoint,
    WebhookEvent,
)
from notifications.services import webhooks
from tests.notifications.receivers import Receiver, Reply, receiving, verifies
from tests.notifications.sending import Sender
from tests.scenario import Scenario

# -- Secrets, tests, replay -----------------------------------------------------------------------------------


def test_after_a_rotation_both_secrets_verify_for_a_day(sender: Sender, receiver: Receiver) -> None:
    old = sender.endpoint(receiver)
    new = webhooks.rotate_secret(actor=sender.actor, uid=old.endpoint.uid)
    assert new.text != old.text
    sender.emit()
    sender.work()
    assert [verifies(receiver.requests[0], made.text) for made in (old, new)] == [True, True]
    assert receiver.requests[0].headers["webhook-signature"].count("v1,") == 2
    sender.pass_time(timedelta(hours=25))
    sender.emit()
    sender.work()
    assert [verifies(receiver.requests[1], made.text) for made in (old, new)] == [False, True]
    forget_old()
    assert WebhookEndpoint.objects.for_team(sender.actor.team).get().old_secret == ""


def test_a_secret_is_sealed_in_the_database(sender: Sender, receiver: Receiver) -> None:
    made = sender.endpoint(receiver)
    row = WebhookEndpoint.objects.for_team(sender.actor.team).get()
    assert made.text.removeprefix("whsec_") not in row.secret
    assert len(made.text) == len("whsec_") + 44  # 32 bytes


def test_a_test_message_goes_once_even_to_one_that_is_switched_off(sender: Sender) -> None:
    with receiving(decide=lambda request, number: Reply(500)) as receiver:
        made = sender.endpoint(receiver, enabled=False)
        webhooks.send_test(actor=sender.actor, uid=made.endpoint.uid)
        sender.work()
        (request,) = receiver.requests
        assert json.loads(request.body)["type"] == "webhook.test"
        assert receiver.unsigned == []
    assert sender.delivery.state == DeliveryState.FAILED
    assert send_due_webhooks() == 0


def test_a_replay_has_the_same_id_and_a_new_signature(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    sender.emit()
    sender.work()
    webhooks.replay(actor=sender.actor, uid=sender.delivery.uid)
    webhooks.replay(actor=sender.actor, uid=sender.delivery.uid)  # it is on its way already
    assert sender.work() == 1
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [attempt.number for attempt in sender.attempts] == [1, 2]
    assert receiver.unsigned == []


def test_a_message_that_was_given_up_begins_anew_when_it_is_replayed(
    sender: Sender, receiver: Receiver
) -> None:
    made = sender.endpoint(receiver)
    sender.emit()
    Delivery.objects.for_team(sender.actor.team).update(state=DeliveryState.FAILED, attempts=10, tries=10)
    OutboxMessage.objects.all().delete()
    webhooks.change_endpoint(actor=sender.actor, uid=made.endpoint.uid, enabled=False)
    with pytest.raises(Conflict, match="switched off"):
        webhooks.replay(actor=sender.actor, uid=sender.delivery.uid)
    webhooks.change_endpoint(actor=sender.actor, uid=made.endpoint.uid, enabled=True)
    webhooks.replay(actor=sender.actor, uid=sender.delivery.uid)
    sender.work()
    assert (sender.delivery.state, sender.delivery.attempts) == (DeliveryState.DELIVERED, 11)


# -- Limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "key"), [(EndpointKind.SLACK, "text"), (EndpointKind.DISCORD, "content")])
def test_chats_get_one_sentence_with_a_link(sender: Sender, receiver: Receiver, kind: str, key: str) -> None:
    sender.endpoint(receiver, kind=kind)
    sender.emit(name="<Kael> & @everyone")
    sender.work()
    told = json.loads(receiver.requests[0].body)
    address = "http://127.0.0.1:8000/t/atelier/trainings/trn_1/"
    if kind == EndpointKind.SLACK:
        assert told == {"text": f"A training is done: <{address}|&lt;Kael&gt; &amp; @everyone>"}
    else:
        assert told["content"] == rf"A training is done: [\<Kael\> & \@everyone](<{address}>)"
        assert told["allowed_mentions"] == {"parse": []}
    assert receiver.unsigned == []


def test_who_may_not_set_up_webhooks_changes_nothing(sender: Sender, scenario: Scenario) -> None:
    with pytest.raises(PermissionDenied):
        webhooks.create_endpoint(actor=scenario.bob, url="https://example.org/")
    assert not WebhookEndpoint.objects.for_team(scenario.team).exists()


def test_only_events_that_are_sent_can_be_asked_for(sender: Sender) -> None:
    with pytest.raises(DomainError) as caught:
        webhooks.create_endpoint(
            actor=sender.actor, url="https://example.org/", event_types=["comment.created"]
        )
    assert caught.value.code == "event_type_unknown"


def test_a_team_has_twenty_at_most(sender: Sender) -> None:
    for number in range(20):
        webhooks.create_endpoint(actor=sender.actor, url=f"https://example.org/{number}")
    with pytest.raises(QuotaExceeded):
        webhooks.create_endpoint(actor=sender.actor, url="https://example.org/20")


def test_the_log_is_forgotten_after_a_month(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    sender.emit()
    sender.work()
    sender.pass_time(timedelta(days=29))
    forget_old()
    assert Delivery.objects.for_team(sender.actor.team).count() == 1
    sender.pass_time(timedelta(days=2))
    forget_old()
    assert Delivery.objects.for_team(sender.actor.team).count() == 0


def test_three_hundred_messages_are_neither_lost_nor_unsigned(sender: Sender, settings: Any) -> None:
    # Every seventh is refused at first. The large version of this runs real workers: bench/webhooks.py.
    with receiving(decide=lambda request, number: Reply(503 if number % 7 == 0 else 200)) as receiver:
        sender.endpoint(receiver)
        for number in range(300):
            sender.emit(name=f"No. {number}")
        for _round in range(60):
            sender.work()
            sender.pass_time(timedelta(minutes=6))
            if len(receiver.by_id) == 300:
                break
        wanted = set(WebhookEvent.objects.for_team(sender.actor.team).values_list("uid", flat=True))
        assert set(receiver.by_id) == wanted
        assert len(wanted) == 300
        assert receiver.unsigned == []
        assert set(receiver.by_id.values()) == {1}
