"""What goes wrong between Stripe and its callers: lost answers, repeated calls and webhooks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from tests.stripe_server import StripeServer
from tests.stripe_server.receiver import WebhookReceiver
from tests.stripe_server.shop import DAY, JAN_1, Shop

# Idempotency and faults


def test_a_key_is_answered_again_and_refused_for_anything_else(shop: Shop) -> None:
    first = shop.api.customers.create({"email": "a@example.com"}, {"idempotency_key": "k"})
    again = shop.api.customers.create({"email": "a@example.com"}, {"idempotency_key": "k"})
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        shop.api.customers.create({"email": "b@example.com"}, {"idempotency_key": "k"})
    assert len(shop.api.customers.list().data) == 1
    assert len(shop.server.events("customer.created")) == 1


def test_one_key_from_many_threads_makes_one_object(shop: Shop) -> None:
    def create(_: int) -> str:
        return shop.api.customers.create({"email": "a@example.com"}, {"idempotency_key": "k"}).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(create, range(16)))) == 1


@pytest.mark.parametrize(
    ("fault", "error", "made"),
    [
        ("500", stripe.APIError, 0),
        ("429", stripe.RateLimitError, 0),
        ("drop_before", stripe.APIConnectionError, 0),
        ("drop_after", stripe.APIConnectionError, 1),
    ],
)
def test_after_a_fault_the_same_key_gives_one_object(
    shop: Shop, fault: str, error: type[Exception], made: int
) -> None:
    shop.server.control("faults", script=[fault])
    with pytest.raises(error):
        shop.api.customers.create({}, {"idempotency_key": "k"})
    assert len(shop.api.customers.list().data) == made
    shop.api.customers.create({}, {"idempotency_key": "k"})
    assert len(shop.api.customers.list().data) == 1
    posts = [call for call in shop.server.control("log")["data"] if call["path"] == "/v1/customers"]
    assert [call["fault"] for call in posts if call["method"] == "POST"] == [fault, None]
    assert [call["replayed"] for call in posts if call["method"] == "POST"] == [False, made == 1]


def test_a_caller_that_waits_too_long_gives_up_though_it_was_done(shop: Shop) -> None:
    shop.server.control("faults", script=["timeout"])
    with pytest.raises(stripe.APIConnectionError):
        shop.server.client(timeout=0.1).v1.customers.create({"email": "a@example.com"})
    assert len(shop.api.customers.list().data) == 1


def test_a_share_of_calls_fails_the_same_way_for_the_same_seed(shop: Shop) -> None:
    def outcomes() -> list[bool]:
        shop.server.control("faults", rate=0.3, seed=7, kinds=["500", "drop_after"])
        results = []
        for _ in range(20):
            try:
                shop.api.products.list()
                results.append(True)
            except stripe.StripeError:
                results.append(False)
        shop.server.control("faults")
        return results

    first = outcomes()
    assert 2 <= first.count(False) <= 10
    assert outcomes() == first


# Webhooks


def test_held_events_come_reversed_and_doubled_when_asked() -> None:
    with WebhookReceiver() as receiver, StripeServer(webhook_url=receiver.url) as server:
        shop = Shop(server)
        server.control("webhooks", mode="hold")
        first, second = (shop.api.customers.create().id for _ in range(2))
        assert server.control("webhooks")["held"] == 2
        assert receiver.received == []
        assert server.control("deliver", order="reversed", repeat=2) == {"sent": 4}
        server.wait_for_webhooks()
        assert [event["data"]["object"]["id"] for event in receiver.received] == [
            second,
            second,
            first,
            first,
        ]
        assert len({event["id"] for event in receiver.received}) == 2


def test_an_event_that_is_refused_is_sent_again() -> None:
    with WebhookReceiver() as receiver, StripeServer(webhook_url=receiver.url, retry_delay=0) as server:
        receiver.statuses = [500, 503]
        customer = Shop(server).api.customers.create(options={"idempotency_key": "k"})
        server.wait_for_webhooks()
        assert [event["data"]["object"]["id"] for event in receiver.received] == [customer.id]
        assert [attempt["status"] for attempt in server.control("deliveries")["data"]] == [500, 503, 200]
        event = receiver.received[0]
        assert (event["object"], event["api_version"]) == ("event", "2026-10-28.endive")
        assert (event["pending_webhooks"], event["request"]["idempotency_key"]) == (1, "k")
        assert server.client().v1.events.retrieve(event["id"]).type == "customer.created"
        assert [e.id for e in server.client().v1.events.list({"type": "customer.*"}).data] == [event["id"]]


def test_a_wrong_secret_is_noticed() -> None:
    with (
        WebhookReceiver("whsec_other") as receiver,
        StripeServer(webhook_url=receiver.url, retry_delay=0) as server,
    ):
        Shop(server).api.customers.create()
        server.wait_for_webhooks()
        assert receiver.received == []
        assert {attempt["status"] for attempt in server.control("deliveries")["data"]} == {400}


def test_held_events_can_be_taken_without_a_receiver(shop: Shop) -> None:
    shop.server.control("webhooks", mode="hold")
    customer = shop.api.customers.create()
    (delivery,) = shop.server.take_held()
    event = stripe.Webhook.construct_event(delivery.body, delivery.headers["Stripe-Signature"], "whsec_test")
    assert event.data.object["id"] == customer.id
    assert shop.server.take_held() == []


def test_reset_forgets_everything(shop: Shop) -> None:
    shop.server.control("advance", seconds=DAY)
    shop.server.control("reset")
    assert shop.api.products.list().data == []
    assert (shop.server.now, shop.server.events()) == (JAN_1, [])
    with pytest.raises(ValueError, match="Unknown command: dance"):
        shop.server.control("dance")


def test_a_stopped_server_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with StripeServer() as server:
        server.client().v1.products.list()
    assert threading.active_count() == before
