"""What the queue's recovery rests on and an upgrade or a setting could take away unnoticed."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import dramatiq
import redis
import yaml
from django.conf import settings
from packaging.version import Version

from config import settings as installed
from core.realtime import stream
from training import worker
from training.tasks import TICKET_QUEUE, gpu_ticket

ROOT = settings.BASE_DIR


def test_dramatiq_is_new_enough() -> None:
    """Before 2.2 a killed worker's messages could stay away for minutes."""
    assert Version(version("dramatiq")) >= Version("2.2")


def test_a_slot_takes_one_ticket_at_a_time_and_only_while_idle() -> None:
    """Prefetched tickets would wait behind a training of hours."""
    taken: list[tuple[str, int]] = []

    class Broker:
        def consume(self, queue: str, prefetch: int, timeout: int) -> object:
            taken.append((queue, prefetch))
            return iter([None])

    original = dramatiq.get_broker()
    dramatiq.set_broker(Broker())  # type: ignore[arg-type]
    try:
        worker.Tickets()._take()
    finally:
        dramatiq.set_broker(original)
    assert taken == [(TICKET_QUEUE, 1)]


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
