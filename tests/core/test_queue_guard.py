"""What the queue's recovery rests on and an upgrade or a setting could take away unnoticed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from importlib.metadata import version
from threading import Event, Timer
from uuid import uuid4

import dramatiq
import pytest
import redis
import yaml
from django.conf import settings
from dramatiq.brokers.redis import RedisBroker
from packaging.version import Version

from config import settings as installed
from core.realtime import stream
from training import worker
from training.tasks import TICKET_QUEUE, gpu_ticket

ROOT = settings.BASE_DIR


def test_dramatiq_is_new_enough() -> None:
    """Before 2.2 a killed worker's messages could stay away for minutes."""
    assert Version(version("dramatiq")) >= Version("2.2")


@pytest.fixture
def broker() -> Iterator[RedisBroker]:
    """The broker of an installation, on keys of its own."""
    original = dramatiq.get_broker()
    broker = RedisBroker(url=settings.REDIS_URL, namespace=f"tickets-{uuid4().hex}")
    broker.declare_queue(TICKET_QUEUE)
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(original)
    broker.close()


def send_ticket(broker: RedisBroker) -> None:
    broker.enqueue(gpu_ticket.message())


def test_a_slot_takes_one_ticket_at_a_time_and_only_while_idle(broker: RedisBroker) -> None:
    """Prefetched tickets would wait behind a training of hours."""
    send_ticket(broker)
    send_ticket(broker)
    tickets = worker.Tickets()
    assert tickets.wait(5, Event())
    assert broker.do_qsize(TICKET_QUEUE) == 1
    assert tickets.wait(5, Event())
    assert broker.do_qsize(TICKET_QUEUE) == 0
    assert broker.client.keys(f"{broker.namespace}:{TICKET_QUEUE}*") == []  # nothing is left behind
    assert not tickets.wait(0.01, Event())


def test_a_ticket_wakes_a_slot_at_once(broker: RedisBroker) -> None:
    sender = Timer(0.3, send_ticket, [broker])
    began = time.monotonic()
    sender.start()
    assert worker.Tickets().wait(60, Event())
    assert time.monotonic() - began < 20
    sender.join()


def test_a_slot_waits_without_a_broker(broker: RedisBroker) -> None:
    broker.client.connection_pool = redis.ConnectionPool.from_url("redis://127.0.0.1:1/0")
    assert not worker.Tickets().wait(0.3, Event())


def test_tickets_are_never_tried_again_and_the_short_workers_do_not_listen_to_them() -> None:
    assert gpu_ticket.options["max_retries"] == 0
    queues = {actor.queue_name for actor in dramatiq.get_broker().actors.values() if actor is not gpu_ticket}
    assert TICKET_QUEUE not in queues


def test_the_reader_of_streams_waits_for_ever() -> None:
    """A socket timeout shorter than the blocking read would drop and open the connection again and again."""
    assert "socket_timeout=None" in inspect.getsource(stream)


def test_brokers_keep_every_message() -> None:
    """One that evicts would lose tickets and short jobs when memory runs out."""
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        assert broker.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    command = next(each["command"] for each in services.values() if "valkey" in each.get("image", ""))
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_killed_workers_give_their_messages_back_within_a_minute() -> None:
    options = installed.DRAMATIQ_BROKER["OPTIONS"]
    assert options["heartbeat_timeout"] <= 60_000
    # Of a million commands so many look for dead workers: every worker sends several a second.
    assert options["maintenance_chance"] >= 50_000
