"""Webhooks over the API: everything the pages do, with a key that may."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.roles import Can
from core.models import IdempotencyRecord
from notifications.models import Delivery, WebhookEndpoint
from tests.notifications.receivers import Receiver, verifies
from tests.notifications.sending import Sender
from tests.projects.conftest import api_client
from tests.scenario import Scenario

BASE = "/api/v1/webhook_endpoints"


@pytest.fixture
def api(scenario: Scenario) -> APIClient:
    return api_client(scenario.alice, scopes=[Can.WEBHOOKS])


def post(api: APIClient, address: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
    return api.post(address, body or {}, format="json", headers=headers)


def test_an_endpoint_is_made_tested_read_and_deleted(
    api: APIClient, sender: Sender, receiver: Receiver
) -> None:
    answer = post(api, BASE, {"url": receiver.url, "event_types": ["training.succeeded"]})
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"].startswith("whk_")
    assert (made["object"], made["kind"], made["enabled"]) == ("webhook_endpoint", "standard", True)
    assert "secret" not in api.get(f"{BASE}/{made['id']}").json()
    sent = post(api, f"{BASE}/{made['id']}/test")
    assert (sent.status_code, sent.json()["type"], sent.json()["state"]) == (202, "webhook.test", "pending")
    sender.work()
    assert verifies(receiver.requests[0], made["secret"])
    (delivery,) = api.get(f"{BASE}/{made['id']}/deliveries").json()["data"]
    assert delivery["id"] == sent.json()["id"]
    assert (delivery["state"], delivery["status_code"], delivery["attempts"]) == ("delivered", 200, 1)
    assert delivery["log"][0]["answer"] == "ok"
    again = post(api, f"/api/v1/deliveries/{delivery['id']}/replay")
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    sender.work()
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery["event"]
    assert api.delete(f"{BASE}/{made['id']}").status_code == 204
    assert api.get(f"{BASE}/{made['id']}").status_code == 404


def test_a_change_and_a_rotation(api: APIClient, sender: Sender, receiver: Receiver) -> None:
    made = sender.endpoint(receiver)
    address = f"{BASE}/{made.endpoint.uid}"
    answer = api.patch(address, {"enabled": False, "description": "Old"}, format="json")
    assert (answer.json()["enabled"], answer.json()["disabled_reason"]) == (False, "person")
    rotated = post(api, f"{address}/rotate")
    assert rotated.status_code == 201
    assert rotated.json()["secret"] != made.text
    assert rotated.json()["old_secret_until"] is not None


def test_a_repeat_with_the_same_key_makes_one_endpoint(api: APIClient, scenario: Scenario) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"url": "https://hooks.example.org/"}
    first, second = (post(api, BASE, body, **headers).json() for _time in range(2))
    assert first["id"] == second["id"]
    assert first["secret"].startswith("whsec_")
    assert second["secret"] is None
    record = IdempotencyRecord.objects.for_team(scenario.team).get()
    assert first["secret"] not in str(record.body)
    assert WebhookEndpoint.objects.for_team(scenario.team).count() == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "required"),
        ({"url": "https://10.0.0.1/"}, 422, "url_refused"),
        ({"url": "https://example.org/", "event_types": ["comment.created"]}, 422, "invalid_choice"),
        ({"url": "https://example.org/", "kind": "pager"}, 422, "invalid_choice"),
        ({"url": "https://example.org/", "secret": "x"}, 400, "unknown_field"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_its_field(
    api: APIClient, scenario: Scenario, body: dict[str, Any], status: int, code: str
) -> None:
    answer = post(api, BASE, body)
    assert answer.status_code == status
    assert code in {answer.json()["code"], *(e["code"] for e in answer.json()["errors"])}
    assert not WebhookEndpoint.objects.for_team(scenario.team).exists()


def test_replaying_to_a_webhook_that_is_off_is_a_conflict(
    api: APIClient, sender: Sender, receiver: Receiver
) -> None:
    made = sender.endpoint(receiver)
    sender.emit()
    sender.work()
    api.patch(f"{BASE}/{made.endpoint.uid}", {"enabled": False}, format="json")
    answer = post(api, f"/api/v1/deliveries/{sender.delivery.uid}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_disabled")


def test_lists_are_paged_and_cost_the_same(
    api: APIClient, sender: Sender, receiver: Receiver, django_assert_max_num_queries: Any
) -> None:
    made = sender.endpoint(receiver)
    address = f"{BASE}/{made.endpoint.uid}/deliveries?limit=10"
    sender.emit()
    sender.work()
    with django_assert_max_num_queries(15) as few:
        api.get(address)
    for _message in range(11):
        sender.emit()
    sender.work()
    with django_assert_max_num_queries(len(few)):
        first = api.get(address).json()
    rest = api.get(f"{address}&cursor={first['next_cursor']}").json()
    uids = [row["id"] for row in first["data"] + rest["data"]]
    assert len(uids) == len(set(uids)) == 12
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_a_key_without_the_scope_is_told_which_one(scenario: Scenario, sender: Sender) -> None:
    api = api_client(scenario.alice, scopes=[Can.TRAINING_VIEW])
    answer = api.get(BASE)
    assert (answer.status_code, answer.json()["permission"]) == (403, "webhooks:write")
    assert not Delivery.objects.for_team(scenario.team).exists()
