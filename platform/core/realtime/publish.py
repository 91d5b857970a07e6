"""Tell the web processes what was just stored. Best effort: the store is the truth, this only saves a wait."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
from django.conf import settings

log = logging.getLogger(__name__)

# A browser that is further behind reads the store.
STREAM_LENGTH = 1000
STREAM_SECONDS = 3600
_QUIET_SECONDS = 30.0
# While Redis is away a worker must not wait for it at every batch.
_AWAY_SECONDS = 2.0

_lock = threading.Lock()
_client: redis.Redis | None = None
_complained = float("-inf")
_try_after = float("-inf")


def stream_key(topic: str) -> str:
    """Return the Redis key of a topic's stream."""
    return f"lf-live:{topic}"


def publish(topic: str, items: Sequence[dict[str, Any]]) -> None:
    """Append stored items (each with its dense `seq`) to the topic's stream; never raises."""
    global _client, _complained, _try_after
    if not items or time.monotonic() < _try_after:
        return
    entry: dict[Any, Any] = {
        "from": items[0]["seq"],
        "to": items[-1]["seq"],
        "items": json.dumps(items, ensure_ascii=False, separators=(",", ":")),
    }
    key = stream_key(topic)
    try:
        with _lock:
            if _client is None:
                _client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1)
        with _client.pipeline(transaction=False) as pipeline:
            pipeline.xadd(key, entry, maxlen=STREAM_LENGTH, approximate=True)
            pipeline.expire(key, STREAM_SECONDS)
            pipeline.execute()
    except redis.RedisError as error:
        _try_after = time.monotonic() + _AWAY_SECONDS
        if time.monotonic() - _complained > _QUIET_SECONDS:
            _complained = time.monotonic()
            log.warning("live updates are late, Redis does not answer: %s", error)
