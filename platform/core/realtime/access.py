"""Tell every web process that somebody's rights changed, so that open sockets are asked again at once."""

from __future__ import annotations

import logging

import redis
from django.conf import settings

log = logging.getLogger(__name__)

ACCESS_KEY = "lf-access"


def tell_access_changed() -> None:
    """Have all open subscriptions checked again; never raises. Without Redis they are within a minute anyway."""
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1) as client:
            client.xadd(ACCESS_KEY, {"changed": 1}, maxlen=10)
    except redis.RedisError as error:
        log.warning("open sockets learn of changed rights late, Redis does not answer: %s", error)
