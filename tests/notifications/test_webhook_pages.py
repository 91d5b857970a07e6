"""The pages of webhooks: made, seen, changed, tested, rotated, switched off, deleted; the secret is seen once."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEvent
from notifications.models import Delivery, DeliveryState, WebhookEndpoint
from tests.notifications.receivers import Receiver, Reply, receiving, verifies
from tests.notifications.sending import Sender
from tests.scenario import Scenario

BASE = "/t/atelier/settings/webhooks/"


@pytest.fixture
def page(scenario: Scenario) -> Client:
    client = Client()
    client.force_login(scenario.alice.user)
    return client


def the_endpoint(scenario: Scenario) -> WebhookEndpoint:
    found: WebhookEndpoint = WebhookEndpoint.objects.for_team(scenario.team).get()
    return found


def test_a_webhook_is_made_and_its_secret_seen_once(
    page: Client, sender: Sender, receiver: Receiver, scenario: Scenario
) -> None:
    assert "No webhooks yet" in page.get(BASE).content.decode()
    form = {
        "url": receiver.url,
        "kind": "standard",
        "description": "Tests",
        "event_types": ["training.failed"],
    }
    answer = page.post(f"{BASE}new/", form)
    assert answer.status_code == 201
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", answer.content.decode())
    assert "no-store" in answer["Cache-Control"]
    endpoint = the_endpoint(scenario)
    assert (endpoint.description, endpoint.event_types) == ("Tests", ["training.failed"])
    for address in (BASE, f"{BASE}{endpoint.uid}/", f"{BASE}{endpoint.uid}/change/"):
        assert "whsec_" not in page.get(address).content.decode()
    page.post(f"{BASE}{endpoint.uid}/test/")
    sender.work()
    assert verifies(receiver.requests[0], secret)
    event = AuditEvent.objects.for_team(scenario.team).filter(verb="webhook.created").get()
    assert event.data["after"]["url"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://10.0.0.1/", "not an address on the public internet"),
        ("http://example.org/", "Use https"),
        ("https://a:b@example.org/", "Leave name and password out"),
    ],
)
def test_an_address_that_is_refused_is_said_beside_its_field(
    page: Client, scenario: Scenario, settings: Any, url: str, words: str
) -> None:
    settings.WEBHOOKS_ALLOW_HTTP = False
    answer = page.post(f"{BASE}new/", {"url": url, "kind": "standard"})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert 'id="id_url_error"' in answer.content.decode()
    assert not WebhookEndpoint.objects.for_team(scenario.team).exists()


def test_the_log_shows_each_try_and_sends_again(page: Client, sender: Sender, scenario: Scenario) -> None:
    moved = Reply(302, {"Location": "https://new.example/"}, b"<b>moved</b>")
    with receiving(decide=lambda request, number: moved if number == 1 else Reply()) as receiver:
        made = sender.endpoint(receiver)
        sender.emit(name="<Kael>")
        sender.work()
        log = page.get(f"{BASE}{made.endpoint.uid}/").content.decode()
        assert "&lt;Kael&gt;" in log
        assert "Redirects are not followed. Enter the final address: https://new.example/" in log
        address = f"/t/atelier/settings/deliveries/{sender.delivery.uid}/"
        shown = page.get(address).content.decode()
        assert "&lt;b&gt;moved&lt;/b&gt;" in shown
        assert "Next try" in shown
        assert page.post(f"{address}replay/")["Location"] == address
        sender.work()
    assert sender.delivery.state == DeliveryState.DELIVERED
    assert page.get(address).content.decode().count('class="row-stack items-start"') == 2


def test_it_is_changed_rotated_switched_and_deleted(
    page: Client, sender: Sender, receiver: Receiver, scenario: Scenario
) -> None:
    made = sender.endpoint(receiver)
    address = f"{BASE}{made.endpoint.uid}/"
    form = {"url": "https://hooks.example.org/new", "kind": "slack", "description": ""}
    assert page.post(f"{address}change/", form).status_code == 303
    assert (the_endpoint(scenario).kind, the_endpoint(scenario).url) == (
        "slack",
        "https://hooks.example.org/new",
    )
    answer = page.post(f"{address}rotate/")
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", answer.content.decode())
    assert secret != made.text
    assert "signed with the old one as well" in answer.content.decode()
    page.post(f"{address}switch/", {"enabled": "off"})
    assert not the_endpoint(scenario).enabled
    page.post(f"{address}switch/", {"enabled": "on"})
    assert the_endpoint(scenario).enabled
    assert page.post(f"{address}delete/")["Location"] == BASE
    assert not WebhookEndpoint.objects.for_team(scenario.team).exists()
    verbs = AuditEvent.objects.for_team(scenario.team).values_list("verb", flat=True)
    assert [v for v in verbs.order_by("pk") if v.startswith("webhook")] == [
        "webhook.created",
        "webhook.changed",
        "webhook.rotated",
        "webhook.changed",
        "webhook.changed",
        "webhook.deleted",
    ]


def test_one_that_was_switched_off_by_itself_says_why(
    page: Client, sender: Sender, scenario: Scenario
) -> None:
    with receiving(decide=lambda request, number: Reply(410)) as receiver:
        made = sender.endpoint(receiver)
        sender.emit()
        sender.work()
    shown = page.get(f"{BASE}{made.endpoint.uid}/").content.decode()
    assert "It was switched off by itself" in shown
    assert "gone (410)" in shown
    bell = page.get("/notifications/bell/").content.decode()
    assert "The webhook to 127.0.0.1 was switched off" in bell


def test_the_log_costs_the_same_for_2_and_for_25_messages(
    page: Client, sender: Sender, receiver: Receiver, django_assert_max_num_queries: Any
) -> None:
    made = sender.endpoint(receiver)
    address = f"{BASE}{made.endpoint.uid}/"
    for _message in range(2):
        sender.emit()
    page.get(address)
    with django_assert_max_num_queries(20) as few:
        page.get(address)
    for _message in range(23):
        sender.emit()
    with django_assert_max_num_queries(len(few)):
        page.get(address)
    assert Delivery.objects.for_team(sender.actor.team).count() == 25


def test_a_member_without_the_right_sees_no_tab(scenario: Scenario, sender: Sender) -> None:
    client = Client()
    client.force_login(scenario.bob.user)
    assert "settings/webhooks" not in client.get("/t/atelier/settings/").content.decode()
    assert client.get(BASE).status_code == 403


def test_times_of_the_log_are_kept(sender: Sender, receiver: Receiver) -> None:
    sender.endpoint(receiver)
    sender.emit()
    sender.work()
    (attempt,) = sender.attempts
    assert sender.delivery.delivered_at - attempt.created_at < timedelta(seconds=5)  # type: ignore[operator]
    assert 0 <= attempt.duration_ms < 5000
